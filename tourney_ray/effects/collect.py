"""Takes a trainer's output over into the store: plain files only, of bounded number, size and depth, content alone.

The folder was written by a stranger. Every step goes through descriptors that follow no link, from our own root down,
so that nothing outside of it can be reached, whatever it holds. All of it is looked at before a byte is read. To be
called only when the trainer is gone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from tourney_ray.core.quoting import shown
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.manifest import ManifestFile
from tourney_ray.effects.pieces import pieces
from tourney_ray.errors import CheckpointInvalid, StorageUnavailable


@dataclass(frozen=True)
class OutputCaps:
    """Most that one output may hold. A 70B model is about 140 GB in 60 files, and earlier states may lie beside."""

    files: int = 10_000
    """Files and folders. Twenty saved states of eight processes each come to 2,000."""
    total_bytes: int = 512 << 30
    """Sizes as files state them, holes included; what the output's disk holds is bounded elsewhere."""
    depth: int = 8
    """Folders below the output folder; `checkpoint-500/global_step500` is 2."""
    name_bytes: int = 200
    links: bool = False
    """Whether symbolic links are left out instead of refused."""


LOG_CAPS = OutputCaps(files=2_000, total_bytes=256 << 20, links=True)
"""Of the logs beside an output. W&B itself makes links to its latest run, so these do not count against anybody."""


@dataclass(frozen=True)
class Collected:
    """What was taken over."""

    digest: str = ""
    """Of the manifest in the store; empty where there was no file."""
    files: int = 0
    bytes: int = 0


@dataclass
class _Survey:
    """What is there, while it is looked at."""

    caps: OutputCaps
    mount: str
    found: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """Path and bytes of each file."""
    entries: int = 0
    total_bytes: int = 0

    def count(self, path: str, size: int) -> None:
        """Take one more entry into account; raises `CheckpointInvalid` over a cap."""
        self.entries += 1
        self.total_bytes += size
        if self.entries > self.caps.files:
            raise CheckpointInvalid(f"the output holds more than {self.caps.files} files")
        if self.total_bytes > self.caps.total_bytes:
            raise CheckpointInvalid(f"the output holds more than {self.caps.total_bytes} bytes ({_quoted(path)})")


def collect(root: Path, inner: str, store: ArtifactStore, caps: OutputCaps | None = None) -> Collected:
    """Keep the files of the folder `inner` below `root`; an empty digest where there are none.

    Folders without files are left out, as are owners, modes and times. Raises `CheckpointInvalid` for anything but
    plain files within the caps, and `StorageUnavailable` where our own disk fails or something is mounted in it.
    """
    try:
        with contextlib.ExitStack() as opened:
            source = _open_inner(root, inner, opened)
            if source is None:
                return Collected()
            survey = _Survey(caps or OutputCaps(), _mount_of(source))
            _look(source, "", survey, 0)
            if not survey.found:
                return Collected()
            digest = store.put_manifest([_keep(source, path, size, store, survey) for path, size in survey.found])
            return Collected(digest, len(survey.found), survey.total_bytes)
    except OSError as problem:
        raise StorageUnavailable(f"the output in {root} could not be collected: {problem}") from problem


def collect_logs(root: Path, inner: str, store: ArtifactStore) -> tuple[Collected, str]:
    """Keep the folder of logs `inner` below `root`, and why it was left out; logs that are refused fail nobody.

    Raises `StorageUnavailable` as `collect` does.
    """
    try:
        return collect(root, inner, store, LOG_CAPS), ""
    except CheckpointInvalid as refused:
        return Collected(), refused.message.replace("the output", "the log folder", 1)


def _open_inner(root: Path, inner: str, opened: contextlib.ExitStack) -> int | None:
    """A descriptor of the folder, every part of the way a folder and no link; None where there is nothing."""
    source = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    opened.callback(os.close, source)
    for name in inner.split("/"):
        try:
            source = _opened(source, name, os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        except NotADirectoryError as problem:
            raise CheckpointInvalid(f"the output's {_quoted(name)} is not a folder") from problem
        opened.callback(os.close, source)
    return source


def _look(folder: int, path: str, survey: _Survey, depth: int) -> None:
    """Take everything in the folder into account, without opening a file."""
    if depth > survey.caps.depth:
        raise CheckpointInvalid(f"the output's folders are more than {survey.caps.depth} deep")
    if _mount_of(folder) != survey.mount:
        raise _mounted(path)
    for name in _names(folder, survey):
        here = f"{path}{name}"
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            survey.count(here, 0)
            with _within(folder, name) as inner:
                _look(inner, f"{here}/", survey, depth + 1)
        elif stat.S_ISLNK(facts.st_mode) and survey.caps.links:
            survey.count(here, 0)
        else:
            _check_plain(facts, here)
            survey.count(here, facts.st_size)
            survey.found.append((here, facts.st_size))


def _names(folder: int, survey: _Survey) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.isprintable() or len(os.fsencode(entry.name)) > survey.caps.name_bytes:
                raise CheckpointInvalid(f"the output holds a file of the name {_quoted(entry.name)}")
            if "\\" in entry.name:
                raise CheckpointInvalid(f"the output holds a file of the name {_quoted(entry.name)}, with a backslash")
            names.append(entry.name)
            if survey.entries + len(names) > survey.caps.files:
                raise CheckpointInvalid(f"the output holds more than {survey.caps.files} files")
    return sorted(names)


def _check_plain(facts: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise CheckpointInvalid(f"the output's {_quoted(path)} is not a plain file")
    if facts.st_nlink != 1:
        raise CheckpointInvalid(f"the output's {_quoted(path)} is not a plain file of its own")


def _keep(source: int, path: str, size: int, store: ArtifactStore, survey: _Survey) -> ManifestFile:
    """Keep one file, found to be plain a moment ago; raises `StorageUnavailable` when it is another one by now."""
    *folders, name = path.split("/")
    with contextlib.ExitStack() as opened:
        folder = source
        for part in folders:
            folder = opened.enter_context(_within(folder, part))
        file = _opened(folder, name, os.O_NONBLOCK)
        opened.callback(os.close, file)
        facts = os.fstat(file)
        _check_plain(facts, path)
        if _mount_of(file) != survey.mount:
            raise _mounted(path)
        digest, kept = store.put(lambda: pieces(file))
    if (facts.st_size, kept) != (size, size):
        raise StorageUnavailable(f"the output's {_quoted(path)} changed while it was collected")
    return ManifestFile(path=path, sha256=digest, bytes=size)


@contextlib.contextmanager
def _within(parent: int, name: str) -> Generator[int]:
    descriptor = _opened(parent, name, os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(parent: int, name: str, flags: int) -> int:
    """A descriptor for reading, of nothing behind a link; modes that keep its owner out are set aside."""
    flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, flags, dir_fd=parent)


def _mount_of(descriptor: int) -> str:
    """Which mount it lies on, bind mounts told apart."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))


def _mounted(path: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"something is mounted at the output's {_quoted(path)}, which no trainer can do", "unmount it on that node"
    )


def _quoted(name: str) -> str:
    """A name as it can be shown to people: short and printable."""
    return f"'{shown(os.fsencode(name), 80)}'"
