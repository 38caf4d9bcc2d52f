"""The folder that a container's output goes to: bounded in bytes and files, so that a full one hurts nobody else.

Where this process may mount, it is a file system of its own on a sparse file, `nodev,nosuid,noexec`; elsewhere a plain
folder, whose watcher asks `overfull()`. Guarantee: each call may be repeated after a crash at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tourney_ray.errors import StorageUnavailable

MIB = 2**20
LEAST_BYTES = 8 * MIB
"""A smaller file system would hold little but its own tables."""

OPTIONS = "nodev,nosuid,noexec,noatime"
TOOL_S = 120.0
"""Making, mounting and unmounting take a tenth of a second each, more on a disk that is busy."""

TRIES = 10
"""Of mounting: between finding a free loop device and taking it, another may take it."""

OPEN_TO_ALL = 0o1777
"""An image's user may be anyone, and owns nothing here."""

TOOLS_PATH = f"{os.defpath}:/usr/sbin:/sbin"
DEEPEST = 200
"""Levels of folders that are measured; a deeper tree is over the bound."""

Kind = Literal["disk", "folder"]


@dataclass(frozen=True)
class Used:
    """What an output takes up."""

    bytes: int
    inodes: int


class OutputDisk:
    """The output of one attempt below `folder`, with at most `bytes` bytes and `inodes` files and folders."""

    def __init__(self, folder: Path, bytes: int, inodes: int) -> None:
        self._folder = folder
        self._image = folder / "disk.img"
        self._point = folder / "disk"
        self._plain = folder / "plain"
        self._bytes = max(bytes, LEAST_BYTES)
        self._inodes = inodes

    @property
    def kind(self) -> Kind:
        """`disk` where the kernel holds the bounds, `folder` where somebody has to watch them."""
        if self._plain.exists():
            return "folder"
        return "disk" if os.path.ismount(self._point) or can_mount() else "folder"

    def exists(self) -> bool:
        """Whether it was prepared and not released; a restart of the machine may have unmounted it."""
        return self._image.exists() or self._plain.exists()

    def prepare(self) -> Path:
        """The folder to mount into the container: the one that is there already, else a new, empty one.

        Raises `StorageUnavailable`.
        """
        with _told(self._folder, "made"):
            if os.path.ismount(self._point):
                return self._point
            if self._plain.exists() or not can_mount():
                self._plain.mkdir(parents=True, exist_ok=True)
                self._plain.chmod(OPEN_TO_ALL)
                return self._plain
            self._make()
            self._mount()
        return self._point

    def seal(self) -> None:
        """Make it read-only, so that what is collected is what was looked at. After the container is gone."""
        if os.path.ismount(self._point):
            _run("mount", "-o", f"remount,ro,{OPTIONS}", str(self._point))

    def release(self) -> None:
        """Remove it and what it holds, once the container is gone; raises `StorageUnavailable` while it is used."""
        with _told(self._folder, "removed"):
            while os.path.ismount(self._point):
                _run("umount", str(self._point))
            self._image.unlink(missing_ok=True)
            if self._point.exists():
                self._point.rmdir()  # never more: whatever lies beneath a mount is not ours to delete
            if self._plain.exists():
                shutil.rmtree(self._plain)
            with contextlib.suppress(FileNotFoundError):
                self._folder.rmdir()

    def used(self) -> Used:
        """What the output takes up now; of a plain folder up to a little beyond its bounds, where the walk ends."""
        if os.path.ismount(self._point):
            found = os.statvfs(self._point)
            return Used((found.f_blocks - found.f_bfree) * found.f_frsize, found.f_files - found.f_ffree)
        return _walked(self._plain, self._bytes, self._inodes) if self._plain.exists() else Used(0, 0)

    def overfull(self) -> str:
        """Why the container has to be stopped; empty as long as it keeps its bounds, and always for a `disk`."""
        if os.path.ismount(self._point) or not self._plain.exists():
            return ""
        used = self.used()
        if used.bytes > self._bytes:
            return f"its output takes up more than {self._bytes / MIB:.0f} MiB"
        return f"its output has more than {self._inodes} files and folders" if used.inodes > self._inodes else ""

    def _make(self) -> None:
        """A file system in a sparse file, whole or not there."""
        self._point.mkdir(parents=True, exist_ok=True)
        if self._image.exists():
            return
        staged = self._image.with_suffix(".new")
        with staged.open("wb") as file:
            file.truncate(self._bytes)
        lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"
        plain = "^resize_inode,^has_journal" if self._bytes < 64 * MIB else "^resize_inode"
        inodes = str(self._inodes + 11)  # the first eleven are the file system's own
        words = ["-q", "-F", "-m", "0", "-N", inodes, "-O", plain, "-E", lazy, str(staged)]
        _run("mkfs.ext4", *words)
        staged.replace(self._image)

    def _mount(self) -> None:
        """Mount it on whichever loop device is free; unmounting frees the device."""
        for left in reversed(range(TRIES)):
            try:
                _run("mount", "-o", f"loop,{OPTIONS}", str(self._image), str(self._point))
                break
            except StorageUnavailable as problem:
                if not left or "loop" not in problem.message:
                    raise
        lost = self._point / "lost+found"
        if lost.exists():
            lost.rmdir()
        self._point.chmod(OPEN_TO_ALL)


def can_mount() -> bool:
    """Whether this process may give an output a file system of its own."""
    tools = all(shutil.which(tool, path=_path()) for tool in ("mkfs.ext4", "mount", "umount"))
    return tools and _is_admin() and os.access("/dev/loop-control", os.R_OK | os.W_OK)


def _is_admin() -> bool:
    """Whether it has the capability to mount."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> 21 & 1)


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{TOOLS_PATH}"


def _run(tool: str, *words: str) -> None:
    """Run a tool of the system; raises `StorageUnavailable` with its words."""
    env = os.environ | {"PATH": _path(), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [tool, *words], env=env, capture_output=True, text=True, errors="replace", timeout=TOOL_S, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise StorageUnavailable(f"{tool} {words[-1]} took over {TOOL_S:.0f} s", "see this node's disk") from late
    if done.returncode != 0:
        raise StorageUnavailable(f"{tool} {words[-1]}: {done.stderr.strip() or done.returncode}", _advice(done.stderr))


def _advice(words: str) -> str:
    if "busy" in words:
        return "a container or a shell still uses it: end that, then try again"
    if "loop" in words:
        return "free loop devices that nobody uses: `losetup -a` lists them"
    return "see this node's disk and its kernel log"


@contextlib.contextmanager
def _told(folder: Path, what: str) -> Generator[None]:
    """Turn the disk's errors into one line."""
    try:
        yield
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room on this node" if full else "see this node's disk"
        raise StorageUnavailable(
            f"the output folder {folder} could not be {what}: {problem.strerror}", hint
        ) from problem


def _walked(root: Path, bytes: int, inodes: int) -> Used:
    """Blocks and entries below `root`, following no link; the walk ends as soon as a bound is passed."""
    total, count = 0, 0
    for path, folders, files, descriptor in os.fwalk(root, follow_symlinks=False):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # the container goes on meanwhile
                total += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * 512
        count += len(folders) + len(files)
        if path.count(os.sep) - str(root).count(os.sep) > DEEPEST:
            return Used(total, inodes + 1)
        if total > bytes or count > inodes:
            break
    return Used(total, count)
