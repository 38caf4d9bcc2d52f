"""Files on their way, as one tar that is written while it is sent and unpacked while it arrives.

Guarantee: owners and times are fixed, so that the same files make the same tar; unpacked is nothing but plain files and
folders, none outside the target, with the rights that they were sent with.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tourney_ray.errors import StorageUnavailable

BLOCK = 512
CHUNK = 1 << 20


@dataclass(frozen=True)
class TarFile:
    """One path of a tar: a file of this machine, a few given bytes, a link or a folder."""

    path: str
    """Below the root, without a leading slash."""
    source: Path | None = None
    content: bytes = b""
    link: str = ""
    folder: bool = False
    mode: int = 0o644

    def body(self, size: int) -> Iterator[bytes]:
        """Its content, exactly `size` bytes; raises `StorageUnavailable` when it has changed."""
        if self.source is None:
            yield self.content
        else:
            yield from _copied(self.source, size)


def tar_stream(files: Iterable[TarFile]) -> Iterator[bytes]:
    """The tar of `files` in pieces of about 1 MiB. Raises `StorageUnavailable` when a file changes meanwhile."""
    buffer = io.BytesIO()
    for piece in _pieces(files):
        buffer.write(piece)
        if buffer.tell() >= CHUNK:
            yield buffer.getvalue()
            buffer = io.BytesIO()
    yield buffer.getvalue() + bytes(2 * BLOCK)


def files_at(root: Path, path: str) -> Iterator[TarFile]:
    """The file at `root/path`, or all plain files of the folder there, in a fixed order; links are followed."""
    place = root / path
    found = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    for file in found:
        yield TarFile(file.relative_to(root).as_posix(), file, mode=file.stat().st_mode & 0o777)


def unpack(stream: Iterator[bytes], target: Path) -> None:
    """Write what comes below `target`; raises `StorageUnavailable` for anything but files and folders there."""
    what = f"what was sent to {target}"
    with _whole(what), tarfile.open(fileobj=_Arriving(stream), mode="r|") as tar:
        for member in tar:
            if not member.isreg():
                raise StorageUnavailable(f"{what} holds {member.name!r:.100}, which is no plain file")
            tar.extract(member, target, filter="tar")


def arriving(stream: Iterator[bytes]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The plain files of what comes, one after the other: path and content, which is read before the next is asked for.

    Raises `StorageUnavailable` when it does not arrive whole.
    """
    with _whole("what was sent"), tarfile.open(fileobj=_Arriving(stream), mode="r|") as tar:
        for member in tar:
            if content := tar.extractfile(member):
                yield member.name, _content(content)


def _content(file: IO[bytes]) -> Iterator[bytes]:
    with _whole("what was sent"):
        while piece := file.read(CHUNK):
            yield piece


@contextlib.contextmanager
def _whole(what: str) -> Generator[None]:
    try:
        yield
    except tarfile.TarError as broken:
        raise StorageUnavailable(f"{what} did not arrive whole: {broken}") from broken


class _Arriving(io.RawIOBase):
    """Pieces as a file that is read once."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self._stream = stream
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, as many as are there; none at the end."""
        if not self._rest:
            self._rest = next(self._stream, b"")
        given, self._rest = self._rest[:size], self._rest[size:]
        return given


def _pieces(files: Iterable[TarFile]) -> Iterator[bytes]:
    for file in files:
        head = _head(file)
        yield head.tobuf(tarfile.PAX_FORMAT)
        if head.isreg():
            yield from file.body(head.size)
            yield bytes(-head.size % BLOCK)


def _head(file: TarFile) -> tarfile.TarInfo:
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


def _copied(source: Path, size: int) -> Iterator[bytes]:
    left = size
    with source.open("rb") as file:
        while piece := file.read(CHUNK):
            left -= len(piece)
            if left < 0:
                break
            yield piece
    if left:
        raise changed(source)


def changed(source: Path) -> StorageUnavailable:
    """That a file is not as it was when it was looked at."""
    return StorageUnavailable(f"{source} changed while it was packed", "try again")
