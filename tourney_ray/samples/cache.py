"""Where what takes a while to make is kept between runs, in the user's cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tourney_ray.errors import StorageUnavailable


def cache_folder() -> Path:
    """`tourney-ray` below XDG_CACHE_HOME, or below `.cache` of the home folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tourney-ray"


def kept(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make` where it is not there yet; it appears whole or not at all.

    Raises `StorageUnavailable` when it cannot be kept, and whatever `make` raises.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=folder.parent))
        try:
            make(staged)
            staged.chmod(0o755)
            staged.rename(folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as problem:
        if not folder.is_dir():
            raise StorageUnavailable(
                f"{folder} cannot be made: {problem}", "set XDG_CACHE_HOME to a folder with room"
            ) from problem
    return folder
