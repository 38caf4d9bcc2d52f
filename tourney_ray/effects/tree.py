"""Git's tree id of a set of files, computed without git.

Guarantee: equal to `git rev-parse HEAD^{tree}` of a commit that holds exactly these files. Reads, never writes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

REGULAR = 0o100644
EXECUTABLE = 0o100755
LINK = 0o120000
FOLDER = 0o40000

TreeFile = tuple[int, bytes]
"""Git mode and content (for a link: its target) of one file."""


def tree_hash(files: Mapping[str, TreeFile]) -> str:
    """Tree id, 40 hex digits, of `files` by path (`/` between folders)."""
    return _folder_digest(files).hex()


def folder_tree_hash(folder: Path) -> str:
    """Tree id of everything below `folder` except `.git` and empty folders; raises `OSError` where it cannot read."""
    files: dict[str, TreeFile] = {}
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder and ".git" in folders:
            folders.remove(".git")
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in [*names, *links]:
            path = Path(parent) / name
            files[path.relative_to(folder).as_posix()] = _read(path)
    return tree_hash(files)


def _read(path: Path) -> TreeFile:
    if path.is_symlink():
        return LINK, os.fsencode(path.readlink())
    return (EXECUTABLE if path.stat().st_mode & 0o100 else REGULAR), path.read_bytes()


def _folder_digest(files: Mapping[str, TreeFile]) -> bytes:
    entries: dict[bytes, tuple[int, bytes]] = {}
    below: dict[str, dict[str, TreeFile]] = {}
    for path, (mode, content) in files.items():
        name, _, rest = path.partition("/")
        if rest:
            below.setdefault(name, {})[rest] = (mode, content)
        else:
            entries[os.fsencode(name)] = (mode, _object_digest(b"blob", content))
    for name, inner in below.items():
        entries[os.fsencode(name)] = (FOLDER, _folder_digest(inner))
    return _object_digest(b"tree", b"".join(_entry(name, *entries[name]) for name in _in_git_order(entries)))


def _in_git_order(entries: Mapping[bytes, tuple[int, bytes]]) -> list[bytes]:
    """Names sorted as git does: a folder's as if it ended in `/`."""
    return sorted(entries, key=lambda name: name + b"/" if entries[name][0] == FOLDER else name)


def _entry(name: bytes, mode: int, digest: bytes) -> bytes:
    return f"{mode:o} ".encode() + name + b"\0" + digest


def _object_digest(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(kind + b" " + str(len(content)).encode() + b"\0" + content).digest()
