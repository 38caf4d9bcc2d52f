"""Files of the operator's that a node gets from the head: models, data sets, vetted trees, at the same paths.

Guarantee: a path is there whole or not at all, and what is there is left as it is.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tourney_ray.effects.file_lock import alone
from tourney_ray.effects.removal import remove_tree
from tourney_ray.effects.tar_stream import files_at, tar_stream, unpack
from tourney_ray.errors import InputsMissing, StorageUnavailable

ARRIVING = ".arriving"
DEPTH = 3
"""Names in the path of one item, such as `data/models/org--name`: what is removed, it is removed with all below it."""


def sent(root: Path, paths: Sequence[str]) -> Iterator[bytes]:
    """The files and folders at these paths below `root`, in pieces; raises `InputsMissing` where one is not there."""
    missing = _missing(root, paths)
    if missing:
        raise InputsMissing(f"{root} does not hold {', '.join(missing)}", "restore what the tasks were prepared with")
    return tar_stream(file for path in paths for file in files_at(root, path))


def have(root: Path, paths: Sequence[str], send: Callable[[Sequence[str]], Iterator[bytes]]) -> None:
    """Make sure that `root` holds these paths: `send` is asked for those that it does not, one node at a time.

    Raises what `send` raises, and `StorageUnavailable` where they cannot be written.
    """
    if not _missing(root, paths):
        return
    with _written(root), nothing_arrives(root):
        if missing := _missing(root, paths):
            _receive(root, missing, send(missing))


def touch(root: Path, paths: Sequence[str]) -> None:
    """Note that the items with these paths are in use now, so that no sweep takes them for old."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.utime(root.joinpath(*Path(path).parts[:DEPTH]))


def items(root: Path) -> list[Path]:
    """Everything that has been brought to `root`."""
    return sorted(path for path in root.glob("/".join("*" * DEPTH)) if path.relative_to(root).parts[0] != ARRIVING)


def nothing_arrives(root: Path) -> AbstractContextManager[None]:
    """A context in which nothing is brought to `root`."""
    return alone(root / ARRIVING / "lock")


def _receive(root: Path, paths: Sequence[str], stream: Iterator[bytes]) -> None:
    staged = root / ARRIVING / uuid.uuid4().hex
    try:
        unpack(stream, staged)
        for path in paths:
            if not (staged / path).exists():
                raise InputsMissing(f"{path} did not arrive: it is empty where it comes from")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (staged / path).rename(root / path)
    finally:
        remove_tree(staged)


def _missing(root: Path, paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not (root / path).exists()]


@contextlib.contextmanager
def _written(root: Path) -> Generator[None]:
    try:
        yield
    except OSError as problem:
        raise StorageUnavailable(f"what the head sent cannot be written to {root}: {problem}", "make room") from problem
