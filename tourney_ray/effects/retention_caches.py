"""What lies on a node to be had again: task data, checked-out checkpoints, fetched repositories, logs of builds.

Guarantee: a folder disappears whole and at once. Folders of the operator's own are not looked at.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tourney_ray.core.holdings import Holdings
from tourney_ray.effects import carried
from tourney_ray.effects.attempt_folder import file_name
from tourney_ray.effects.file_lock import alone
from tourney_ray.effects.removal import GONE, remove_tree
from tourney_ray.effects.repos import RepoStore
from tourney_ray.effects.retention import Item, Mark, Removed, Swept, sweep
from tourney_ray.errors import StorageUnavailable

BLOCK = 512
"""The unit in which a file system tells what a file takes up."""

UNFINISHED = "unfinished folder"


@dataclass(frozen=True)
class Caches:
    """Where they lie on this node."""

    tasks: Path
    checkouts: Path
    repos: RepoStore
    builds: Path
    carried: Path


@dataclass(frozen=True)
class _Kind:
    """One folder of caches."""

    what: str
    root: Path
    held: Collection[str]
    lock: Callable[[str], AbstractContextManager[None]]
    """Held while one of that name is removed."""
    items: Callable[[Path], list[Path]]
    """The caches of this kind; anything else in the folder is none of ours, or not finished."""


def sweep_caches(caches: Caches, mark: Mark, most_bytes: int, dry_run: bool = False) -> Swept:
    """Bring all of them together below the limit, and remove what nobody will finish. Raises `StorageUnavailable`."""
    try:
        kinds = _kinds(caches, mark.held)
        found = {path: kind for kind in kinds for path in kind.items(kind.root)}
        items = {item.name: item for path, kind in found.items() if (item := _item(kind.what, path))}
        held = {str(path) for path, kind in found.items() if path.name in kind.held}
        held |= {name for name, item in items.items() if item.used_at > mark.before}
        unfinished = tuple(_unfinished(caches, mark.unfinished_before, dry_run))
        swept = sweep(
            "caches",
            list(items.values()),
            held,
            most_bytes,
            lambda item: item.size_bytes if dry_run else _removed(found[Path(item.name)], item, mark.before),
        )
    except OSError as problem:
        raise StorageUnavailable(f"the caches of this node could not be swept: {problem}", "see its disk") from problem
    return swept.model_copy(update={"removed": (*unfinished, *swept.removed)})


def _kinds(caches: Caches, held: Holdings) -> list[_Kind]:
    tasks, checkouts, repos = caches.tasks, caches.checkouts, caches.repos
    built = {f"{tree}-{kind}{suffix}" for tree, kind in held.images for suffix in (".log", ".json")}
    return [
        _Kind(
            "task data",
            tasks,
            {file_name(task) for task in held.tasks},
            lambda name: alone(tasks / f".{name}.lock"),
            _folders,
        ),
        _Kind("checkout", checkouts, held.checkpoints, lambda _: nullcontext(), _folders),
        _Kind("repository", repos.trees, held.trees, lambda _: repos.deciding(), _folders),
        _Kind(
            "build log",
            caches.builds,
            built,
            lambda name: alone(caches.builds / f"{Path(name).stem}.lock"),
            lambda root: [path for path in _entries(root) if path.suffix in (".log", ".json")],
        ),
        _Kind(
            "copy of the head's", caches.carried, (), lambda _: carried.nothing_arrives(caches.carried), carried.items
        ),
    ]


def _folders(root: Path) -> list[Path]:
    return [path for path in _entries(root) if path.is_dir() and not path.name.startswith(".")]


def _item(what: str, path: Path) -> Item | None:
    """The item at that path; None where it is gone by now."""
    try:
        return Item(what, str(path), room_of(path), _used_at(path))
    except FileNotFoundError:
        return None


def room_of(path: Path) -> int:
    """Bytes that the disk has back when a file or folder is removed: without files that have other names as well."""
    if path.is_symlink() or not path.is_dir():
        return _own_room(path.lstat())
    total, pending = 0, [str(path)]
    while pending:
        with contextlib.suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    total += _own_room(entry.stat(follow_symlinks=False))
    return total


def _own_room(facts: os.stat_result) -> int:
    return facts.st_blocks * BLOCK if facts.st_nlink == 1 else 0


def _used_at(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_mtime, UTC)


def _removed(kind: _Kind, item: Item, before: datetime) -> int | str:
    """Remove it unless somebody has used it since; the bytes freed, or why it stays."""
    path = Path(item.name)
    with kind.lock(path.name):
        try:
            if _used_at(path) > before:
                return "it was used again meanwhile"
        except FileNotFoundError:
            return 0
        gone = path.with_name(f"{GONE}{path.name}.{os.getpid()}")
        path.rename(gone)
    remove_tree(gone)
    return item.size_bytes


def _unfinished(caches: Caches, before: datetime, dry_run: bool) -> Iterator[Removed]:
    """What was being made or removed when whoever did it died, removed."""
    roots = caches.tasks, caches.checkouts, caches.repos.trees, caches.builds
    begun = [path for root in roots for path in _entries(root) if path.name.startswith(".") and path.suffix != ".lock"]
    arriving = caches.carried / carried.ARRIVING, caches.repos.trees.parents[1] / carried.ARRIVING
    begun += [path for root in (caches.repos.work, *arriving) for path in _entries(root) if path.name != "lock"]
    begun = [path for path in begun if path.suffix != ".lock"]
    for item in filter(None, (_item(UNFINISHED, path) for path in begun)):
        if item.used_at < before:
            if not dry_run:
                remove_tree(Path(item.name))
            yield Removed(what=item.what, name=item.name, bytes=item.size_bytes, used_at=item.used_at)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
