"""What of a repository's tree is sent to the engine for a build, looked at before anything reads it with our rights.

Guarantee: the dockerfile and the files that say what to leave out are plain, small files inside of the tree; the tree
has no more entries and bytes than it may, and nothing that is neither file, folder nor link. Links are sent as links.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tourney_ray.core.quoting import shown
from tourney_ray.effects.contract import dockerfile_at
from tourney_ray.effects.engine.dockerfile_demands import Added
from tourney_ray.errors import ImageBuildFailed

DOCKERFILE_BYTES = 64 * 1024
"""The engine's own time with a long word grows with the square of its length."""

IGNORED_BYTES = 16 * 1024
"""Of `.dockerignore`: the command line tool holds each of its patterns against every file."""

PACKED = (b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
"""How files begin that ADD would unpack: bzip2, gzip, xz, zstd."""

SKIPPABLE = (0x184D2A50, 0x184D2A5F)
"""Frames that a zstd file may begin with, little-endian."""

BLOCK, SUM_AT, SUM_ENDS = 512, 148, 156
"""Of a tar: its first header, and where that holds its own checksum."""


def read_dockerfile(source: Path, kind: str) -> bytes:
    """The dockerfile of that trainer; raises `ImageBuildFailed` where it is missing, no plain file, or too long."""
    name = dockerfile_at(kind)
    if not _is_plain(source, name):
        raise ImageBuildFailed(f"the repository has no file {name}")
    if (source / name).stat().st_size > DOCKERFILE_BYTES:
        raise ImageBuildFailed(f"{name} has more than {DOCKERFILE_BYTES // 1024} KiB")
    return (source / name).read_bytes()


def check_context(source: Path, kind: str, most_bytes: int, most_entries: int) -> None:
    """Raise `ImageBuildFailed` unless the tree is one that may be sent to the engine."""
    for name in (".dockerignore", f"{dockerfile_at(kind)}.dockerignore"):
        if not os.path.lexists(source / name):
            continue
        if not _is_plain(source, name):
            raise ImageBuildFailed(f"{name} is not a plain file")
        if (source / name).stat().st_size > IGNORED_BYTES:
            raise ImageBuildFailed(f"{name} has more than {IGNORED_BYTES // 1024} KiB")
    size = 0
    for count, entry in enumerate(_entries(source), 1):
        size += 0 if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False).st_size
        if count > most_entries:
            raise ImageBuildFailed(f"the repository has more than {most_entries} files and folders")
        if size > most_bytes:
            raise ImageBuildFailed(f"the repository has more than {most_bytes / 2**30:.1f} GiB")
        if not (entry.is_symlink() or entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
            raise ImageBuildFailed(f"{shown(os.path.relpath(entry.path, source))} is neither a file nor a folder")


def check_added(source: Path, files: Iterable[Added]) -> None:
    """Raise `ImageBuildFailed` for what ADD would unpack: the engine does that itself, outside every bound."""
    for one in files:
        name = posixpath.normpath(f"/{one.path}").lstrip("/")
        path = source / name
        if not os.path.lexists(path):
            continue  # the builder says so itself
        if _has_link(source, name) or (path.is_file() and _is_archive(path)):
            raise ImageBuildFailed(
                f"the dockerfile unpacks an archive, or adds a link: line {one.line}: ADD {shown(one.path)}",
                "use COPY, and unpack it in a RUN",
            )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    pending = [os.fspath(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


def _is_plain(source: Path, name: str) -> bool:
    """Whether it is a file, with no link on the way to it."""
    return (
        os.path.lexists(source / name) and not _has_link(source, name) and stat.S_ISREG((source / name).stat().st_mode)
    )


def _has_link(source: Path, name: str) -> bool:
    path = source
    for part in Path(name).parts:
        path /= part
        if path.is_symlink():
            return True
    return False


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(BLOCK)
    if start.startswith(PACKED) or SKIPPABLE[0] <= int.from_bytes(start[:4], "little") <= SKIPPABLE[1]:
        return True
    return len(start) == BLOCK and _is_tar_header(start)


def _is_tar_header(block: bytes) -> bool:
    """Whether its checksum is right, or written in a way that some reader might take for right."""
    written = block[SUM_AT:SUM_ENDS].strip(b" \0")
    if not written or not set(written.replace(b"\0", b"")) <= set(b"01234567 "):
        return False
    blank = block[:SUM_AT] + b" " * (SUM_ENDS - SUM_AT) + block[SUM_ENDS:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in blank)  # noqa: PLR2004 - as a signed byte
    number = int(written.split(b"\0")[0].split(b" ")[0] or b"0", 8)
    return number in (sum(blank), signed)
