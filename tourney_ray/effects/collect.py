"""Takes a trainer's output over: plain files only, of bounded number, size and depth, copied without their attributes.

The folder was written by a stranger. Every step goes through descriptors that follow no link, from our own root down,
so that nothing outside of it can be reached, whatever it holds. To be called only when the trainer is gone.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tourney_ray.errors import CheckpointInvalid, StorageUnavailable

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class OutputCaps:
    """Most that one output may hold."""

    files: int = 512
    total_bytes: int = 4 << 30
    depth: int = 4
    """Folders below the output folder."""
    name_bytes: int = 200


@dataclass
class _Tally:
    caps: OutputCaps
    files: int = 0
    total_bytes: int = 0

    def count(self, name: str, size: int) -> None:
        """Take one more file into account; raises `CheckpointInvalid` over a cap."""
        self.files += 1
        self.total_bytes += size
        if self.files > self.caps.files:
            raise CheckpointInvalid(f"the output holds more than {self.caps.files} files")
        if self.total_bytes > self.caps.total_bytes:
            raise CheckpointInvalid(f"the output holds more than {self.caps.total_bytes} bytes ({name})")


def collect(root: Path, inner: str, target: Path, caps: OutputCaps | None = None) -> int:
    """Copy the folder `inner` below `root` to `target`, replacing it; the number of files, 0 where there is no output.

    `target` appears whole or not at all. Raises `CheckpointInvalid` for anything but plain files within the caps, and
    `StorageUnavailable` where our own disk fails.
    """
    staged = target.with_name(f".{target.name}.staged")
    try:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True, mode=0o700)
        files = _collect_into(root, inner, staged, _Tally(caps or OutputCaps()))
        if files:
            shutil.rmtree(target, ignore_errors=True)
            staged.rename(target)
    except OSError as problem:
        raise StorageUnavailable(f"the output in {root} could not be collected: {problem}") from problem
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return files


def _collect_into(root: Path, inner: str, staged: Path, tally: _Tally) -> int:
    source = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in inner.split("/"):
            deeper = _open_folder(source, name)
            if deeper is None:
                return 0
            os.close(source)
            source = deeper
        _copy_folder(source, staged, tally, 0)
    finally:
        os.close(source)
    return tally.files


def _open_folder(parent: int, name: str) -> int | None:
    """A descriptor of a folder that is no link; None where there is nothing of that name."""
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return None
    except NotADirectoryError as problem:
        raise CheckpointInvalid(f"the output's {_shown(name)} is not a folder") from problem


def _copy_folder(source: int, target: Path, tally: _Tally, depth: int) -> None:
    if depth > tally.caps.depth:
        raise CheckpointInvalid(f"the output's folders are more than {tally.caps.depth} deep")
    for name in _names(source, tally.caps):
        kind = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        if stat.S_ISDIR(kind):
            tally.count(name, 0)
            (target / name).mkdir(mode=0o700)
            with _folder(source, name) as inner:
                _copy_folder(inner, target / name, tally, depth + 1)
        else:
            _copy_file(source, name, target / name, tally)


def _names(folder: int, caps: OutputCaps) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.isprintable() or len(os.fsencode(entry.name)) > caps.name_bytes:
                raise CheckpointInvalid(f"the output holds a file of the name {_shown(entry.name)}")
            names.append(entry.name)
            if len(names) > caps.files:
                raise CheckpointInvalid(f"the output holds more than {caps.files} files")
    return sorted(names)


@contextmanager
def _folder(parent: int, name: str) -> Generator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy_file(parent: int, name: str, target: Path, tally: _Tally) -> None:
    if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        raise CheckpointInvalid(f"the output's {_shown(name)} is not a plain file")
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
    try:
        facts = os.fstat(source)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise CheckpointInvalid(f"the output's {_shown(name)} is not a plain file of its own")
        tally.count(name, facts.st_size)
        _copy_bytes(source, target, facts.st_size)
    finally:
        os.close(source)


def _copy_bytes(source: int, target: Path, size: int) -> None:
    """Copy exactly `size` bytes at most, however long the file is by now."""
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        left = size
        while left > 0 and (chunk := os.read(source, min(left, COPY_BYTES))):
            left -= len(chunk)
            file.write(chunk)


def _shown(name: str) -> str:
    """A name as it can be shown to people: short and printable."""
    return repr(os.fsencode(name)[:80].decode("utf-8", errors="replace"))
