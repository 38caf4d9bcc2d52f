"""Kept objects in a place that pyarrow reaches: S3, Google's or Azure's store, HDFS and others.

Guarantee: as in `objects`. What object stores cannot do, such as moving a large object, is not asked of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast

from pyarrow import fs

from tourney_ray.effects.manifest import DIGEST
from tourney_ray.effects.objects import OBJECTS, STAGED, StoredObject
from tourney_ray.effects.pieces import Read, blocks, hash_piece
from tourney_ray.errors import StorageUnavailable

YOUNG = timedelta(minutes=30)
"""Where the age of an object cannot be set, one that is older is written again."""


@dataclass(frozen=True)
class RemoteObjects:
    """Objects below `root` of any of pyarrow's file systems. Content is read twice: for its digest, then to send it."""

    files: fs.FileSystem
    root: str

    @property
    def whole_when_closed(self) -> bool:
        """Whether an object appears only when all of it is sent, as in object stores, which cannot move large ones."""
        return str(self.files.type_name) in ("s3", "gcs", "abfs")

    def put(self, read: Read) -> tuple[str, int]:
        """Sent under its own name where that appears whole, else under another one and moved."""
        hashing, size = hashlib.sha256(), 0
        for piece in read():
            size += hash_piece(hashing, piece)
        digest = hashing.hexdigest()
        if not self._is_young(digest):
            self._send(digest, size, read)
        return digest, size

    def open(self, digest: str) -> BinaryIO:
        """A stream of its content."""
        return cast("BinaryIO", self.files.open_input_stream(self._target(digest)))

    def has(self, digest: str) -> bool:
        """Whether the place lists it."""
        return self._info(digest).type is fs.FileType.File

    def path(self, digest: str) -> Path | None:
        """None: it is not on this machine."""
        return None

    def list(self) -> Iterator[StoredObject]:
        """All objects, and what is being sent or was given up."""
        for folder, prefix in ((OBJECTS, ""), (STAGED, f"{STAGED}/")):
            selector = fs.FileSelector(self._at(folder), allow_not_found=True, recursive=True)
            for info in self.files.get_file_info(selector):
                name = f"{prefix}{info.base_name}"
                if info.type is fs.FileType.File and (prefix or DIGEST.fullmatch(name)):
                    yield StoredObject(name, info.size or 0, _modified(info))

    def remove(self, name: str, unless_after: datetime | None = None) -> int:
        """Gone when this returns, as far as the place keeps its word."""
        at = self._at(name) if name.startswith(f"{STAGED}/") else self._target(name)
        info = self.files.get_file_info(at)
        if info.type is not fs.FileType.File or (unless_after and _modified(info) > unless_after):
            return 0
        self.files.delete_file(at)
        return info.size or 0

    def _send(self, digest: str, size: int, read: Read) -> None:
        target = self._target(digest)
        self.files.create_dir(target.rpartition("/")[0], recursive=True)
        self.files.create_dir(self._at(STAGED), recursive=True)
        at = target if self.whole_when_closed else self._at(f"{STAGED}/{uuid.uuid4().hex}")
        with self._nothing_left_of(at):
            hashing = hashlib.sha256()
            with self.files.open_output_stream(at) as stream:
                for piece in read():
                    for block in blocks(piece):
                        hashing.update(block)
                        stream.write(block)
            if hashing.hexdigest() != digest:
                raise StorageUnavailable(f"a file of {size} bytes changed while it was read")
        if at != target:
            self.files.move(at, target)

    @contextlib.contextmanager
    def _nothing_left_of(self, at: str) -> Generator[None]:
        """Remove what was sent when the rest cannot follow."""
        with contextlib.ExitStack() as undone:
            undone.callback(self._forget, at)
            yield
            undone.pop_all()

    def _forget(self, at: str) -> None:
        with contextlib.suppress(OSError):  # what is left has no digest's name, or is sent again
            self.files.delete_file(at)

    def _is_young(self, digest: str) -> bool:
        info = self._info(digest)
        return info.type is fs.FileType.File and datetime.now(UTC) - _modified(info) < YOUNG

    def _info(self, digest: str) -> fs.FileInfo:
        return self.files.get_file_info(self._target(digest))

    def _target(self, digest: str) -> str:
        return self._at(f"{OBJECTS}/{digest[:2]}/{digest}")

    def _at(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}" if self.root else name


def _modified(info: fs.FileInfo) -> datetime:
    """When it was written; long ago where the place does not say."""
    found = cast("datetime | None", info.mtime)
    return found.astimezone(UTC) if found else datetime.fromtimestamp(0, UTC)
