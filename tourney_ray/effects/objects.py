"""Where kept objects lie, each under the SHA-256 of its content; here, a folder of this machine.

Guarantee: an object appears whole or not at all, under the digest of what was written; keeping it again makes it young
again, so that nobody who removes old objects takes one that was just counted on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from tourney_ray.effects.file_lock import alone
from tourney_ray.effects.manifest import DIGEST
from tourney_ray.effects.pieces import Read, hash_piece

STAGED = "staged"
OBJECTS = "objects"
LOCK = "lock"
BLOCK = 512
"""The unit in which a file system tells what a file takes up."""


@dataclass(frozen=True)
class StoredObject:
    """An object as it lies there; `name` is its digest, or `staged/…` for what nobody has finished."""

    name: str
    bytes: int
    """Room that it takes up: without its holes, where the place leaves them out."""
    modified: datetime


class Objects(Protocol):
    """A place of objects. All methods raise `OSError` as they come; `ArtifactStore` says what they mean."""

    def put(self, read: Read) -> tuple[str, int]:
        """Keep what `read` gives: its digest and its bytes."""
        ...

    def open(self, digest: str) -> BinaryIO:
        """The object for reading; raises `FileNotFoundError`."""
        ...

    def has(self, digest: str) -> bool:
        """Whether it is there; says nothing about its content."""
        ...

    def path(self, digest: str) -> Path | None:
        """The object's own file on this machine, for links; None elsewhere."""
        ...

    def list(self) -> Iterator[StoredObject]:
        """All objects, and what was left unfinished, in no order."""
        ...

    def remove(self, name: str, unless_after: datetime | None = None) -> int:
        """Remove it unless it was written or kept again after that moment: the bytes freed, 0 where it is gone."""
        ...


@dataclass(frozen=True)
class LocalObjects:
    """Objects in a folder of this machine: files 0400, folders 0700.

    To count on an object that is there and to remove an old one are done under one lock, so that none is removed that
    was counted on just now.
    """

    root: Path

    def put(self, read: Read) -> tuple[str, int]:
        """Written beside and moved into place; read once, holes stay holes."""
        staged = self._in(STAGED, uuid.uuid4().hex)
        try:
            digest, size = self._write(staged, read)
            self.take(staged, digest)
        finally:
            staged.unlink(missing_ok=True)
        return digest, size

    def take(self, file: Path, digest: str) -> None:
        """Move a file of this file system, which nobody writes any more, into the place of the object `digest`."""
        target = self._target(digest)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.chmod(0o400)
        os.utime(file)
        with alone(self.root / LOCK):
            if target.is_file() and target.stat().st_size == file.stat().st_size:
                os.utime(target)
                return
            file.rename(target)
        _sync_folder(target.parent)

    def open(self, digest: str) -> BinaryIO:
        """The object's file."""
        return self._target(digest).open("rb")

    def has(self, digest: str) -> bool:
        """Whether its file is there."""
        return self._target(digest).is_file()

    def path(self, digest: str) -> Path | None:
        """Its file."""
        return self._target(digest)

    def list(self) -> Iterator[StoredObject]:
        """All files that are named as objects are, and all of the staging folder."""
        for file in [*self.root.glob(f"{OBJECTS}/??/*"), *self.root.glob(f"{STAGED}/*")]:
            name = file.name if file.parent.name != STAGED else f"{STAGED}/{file.name}"
            if DIGEST.fullmatch(name) or name.startswith(STAGED):
                with contextlib.suppress(FileNotFoundError):
                    facts = file.lstat()
                    yield StoredObject(name, facts.st_blocks * BLOCK, datetime.fromtimestamp(facts.st_mtime, UTC))

    def remove(self, name: str, unless_after: datetime | None = None) -> int:
        """Its room is free at once, unless a checked-out folder shares the file: then 0 bytes are."""
        file = self.root / name if name.startswith(f"{STAGED}/") else self._target(name)
        if not file.exists():
            return 0
        with alone(self.root / LOCK):
            try:
                facts = file.lstat()
                if unless_after and datetime.fromtimestamp(facts.st_mtime, UTC) > unless_after:
                    return 0
                file.unlink()
            except FileNotFoundError:
                return 0
        return facts.st_blocks * BLOCK if facts.st_nlink == 1 else 0

    def _write(self, staged: Path, read: Read) -> tuple[str, int]:
        hashing, size = hashlib.sha256(), 0
        with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
            for piece in read():
                if isinstance(piece, int):
                    file.seek(piece, os.SEEK_CUR)
                else:
                    _write_all(file.fileno(), piece)
                size += hash_piece(hashing, piece)
            file.truncate(size)
            os.fsync(file.fileno())
        return hashing.hexdigest(), size

    def _in(self, folder: str, name: str) -> Path:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.root / folder).mkdir(exist_ok=True, mode=0o700)
        return self.root / folder / name

    def _target(self, digest: str) -> Path:
        return self.root / OBJECTS / digest[:2] / digest


def is_full(problem: OSError) -> bool:
    """Whether it says that there is no room."""
    return problem.errno in (errno.ENOSPC, errno.EDQUOT)


def _write_all(file: int, content: bytes | memoryview) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
