"""Removes folders that strangers filled: however deep, whatever modes, and never through a link.

Guarantee: nothing outside of the folder is touched, and what is removed is out of sight at once, never seen in part.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path

GONE = ".removed-"
"""Beginning of the name of what is being removed: whoever finds it may remove it too."""


def remove_tree(path: Path) -> None:
    """Remove the file or folder at `path`; nothing where there is none. Raises `OSError` for what cannot be removed."""
    out_of_sight = path.with_name(f"{GONE}{uuid.uuid4().hex}")
    if path.name.startswith(GONE):
        out_of_sight = path
    else:
        try:
            path.rename(out_of_sight)
        except FileNotFoundError:
            return
    if out_of_sight.is_dir() and not out_of_sight.is_symlink():
        _empty(out_of_sight)
        out_of_sight.rmdir()
    else:
        out_of_sight.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    """Remove all that is in it. Folders within folders are moved up first, so depth costs neither stack nor paths."""
    folder.chmod(0o700)
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        while names := os.listdir(top):
            for name in names:
                _remove_or_flatten(top, name)
    finally:
        os.close(top)


def _remove_or_flatten(top: int, name: str) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=top)
        return
    inner = _opened(top, name)
    try:
        for below in os.listdir(inner):
            if stat.S_ISDIR(os.stat(below, dir_fd=inner, follow_symlinks=False).st_mode):
                with contextlib.suppress(PermissionError):  # then the rename says so
                    os.chmod(below, 0o700, dir_fd=inner)  # a folder without its owner's rights cannot be moved
                os.rename(below, uuid.uuid4().hex, src_dir_fd=inner, dst_dir_fd=top)
            else:
                os.unlink(below, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)


def _opened(top: int, name: str) -> int:
    os.chmod(name, 0o700, dir_fd=top)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
