"""The files of an image, as one tar that is written while it is sent.

Guarantee: the order, the owners and the times are fixed, and no path occurs twice.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tourney_ray.errors import StorageUnavailable

BLOCK = 512
CHUNK = 1 << 20
PYC_TIME = slice(8, 12)
"""Where compiled Python keeps its source's time of change, in seconds."""


@dataclass(frozen=True)
class ImageFile:
    """One path of an image: a file of this machine, a few given bytes, a link or a folder."""

    path: str
    """Below the image's root, without a leading slash."""
    source: Path | None = None
    content: bytes = b""
    link: str = ""
    folder: bool = False
    mode: int = 0o644

    def fingerprint(self) -> str:
        """A line that changes when the path does: of a file its size and time of change, not what is in it."""
        if self.source is None:
            return f"{self.path} {self.mode:o} {self.folder} {self.link} {self.content.hex()}"
        found = self.source.stat()
        return f"{self.path} {self.mode:o} {found.st_size} {found.st_mtime_ns}"


def from_host(path: str, source: Path) -> ImageFile:
    """A file of this machine under another path, executable for all when it is for its owner."""
    return ImageFile(path, source, mode=0o755 if source.stat().st_mode & 0o100 else 0o644)


def with_folders(files: Iterable[ImageFile]) -> list[ImageFile]:
    """The files, the first of each path only, and the folders that they lie in, each before what it holds."""
    found: dict[str, ImageFile] = {}
    for file in files:
        found.setdefault(file.path, file)
    for path in list(found):
        for parent in Path(path).parents[:-1]:
            found.setdefault(parent.as_posix(), ImageFile(parent.as_posix(), folder=True, mode=0o755))
    return [found[path] for path in sorted(found)]


def manifest_digest(files: Iterable[ImageFile]) -> str:
    """SHA-256 (64 hex digits) of what is to be in the image, taken from sizes and times; reads no content."""
    lines = "".join(f"{file.fingerprint()}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def tar_stream(files: Iterable[ImageFile]) -> Iterator[bytes]:
    """The tar of `files` in pieces of about 1 MiB. Raises `StorageUnavailable` when a file changes meanwhile."""
    buffer = io.BytesIO()
    for piece in _pieces(files):
        buffer.write(piece)
        if buffer.tell() >= CHUNK:
            yield buffer.getvalue()
            buffer = io.BytesIO()
    yield buffer.getvalue() + bytes(2 * BLOCK)


def _pieces(files: Iterable[ImageFile]) -> Iterator[bytes]:
    for file in files:
        head = _head(file)
        yield head.tobuf(tarfile.PAX_FORMAT)
        if head.isreg():
            yield from _body(file, head.size)
            yield bytes(-head.size % BLOCK)


def _head(file: ImageFile) -> tarfile.TarInfo:
    """Owner root, time 0."""
    head = tarfile.TarInfo(file.path)
    head.mode = file.mode
    if file.folder:
        head.type = tarfile.DIRTYPE
    elif file.link:
        head.type, head.linkname, head.mode = tarfile.SYMTYPE, file.link, 0o777
    else:
        head.size = file.source.stat().st_size if file.source else len(file.content)
    return head


def _body(file: ImageFile, size: int) -> Iterator[bytes]:
    if file.source is None:
        yield file.content
    elif file.source.suffix == ".pyc":
        yield _compiled(file.source, size)
    else:
        yield from _copied(file.source, size)


def _compiled(source: Path, size: int) -> bytes:
    """Compiled Python that says what is true in the image: its source's time is 0."""
    content = bytearray(source.read_bytes())
    if len(content) != size:
        raise _changed(source)
    content[PYC_TIME] = bytes(4)
    return bytes(content)


def _copied(source: Path, size: int) -> Iterator[bytes]:
    left = size
    with source.open("rb") as file:
        while piece := file.read(CHUNK):
            left -= len(piece)
            if left < 0:
                break
            yield piece
    if left:
        raise _changed(source)


def _changed(source: Path) -> StorageUnavailable:
    return StorageUnavailable(f"{source} changed while it was packed into an image", "try again")
