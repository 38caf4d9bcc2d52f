"""The files of an image, each once and below its folders.

Guarantee: the order, the owners and the times are fixed, and no path occurs twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tourney_ray.effects.tar_stream import TarFile, changed

PYC_TIME = slice(8, 12)
"""Where compiled Python keeps its source's time of change, in seconds."""


@dataclass(frozen=True)
class ImageFile(TarFile):
    """One path of an image."""

    def body(self, size: int) -> Iterator[bytes]:
        """Its content; compiled Python says what is true in the image: its source's time is 0."""
        if self.source is None or self.source.suffix != ".pyc":
            yield from super().body(size)
            return
        content = bytearray(self.source.read_bytes())
        if len(content) != size:
            raise changed(self.source)
        content[PYC_TIME] = bytes(4)
        yield bytes(content)

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
