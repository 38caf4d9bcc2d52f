"""Which kept objects have to go: found from what the journal names, since no object says who needs it.

Guarantee: a needed folder keeps all of its files; where it cannot be told which these are, nothing is removed. What is
being kept at this moment is young, and stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.manifest import digest_of
from tourney_ray.effects.objects import STAGED, StoredObject
from tourney_ray.effects.provenance import load
from tourney_ray.effects.retention import Item, Mark, Removed, Swept, sweep
from tourney_ray.errors import StorageUnavailable

CHECKPOINT, OBJECT, UNFINISHED = "checkpoint", "object", "unfinished object"


def sweep_artifacts(store: ArtifactStore, mark: Mark, most_bytes: int, dry_run: bool = False) -> Swept:
    """Bring the store below its limit: past checkpoints go whole, each object that nobody names by itself.

    What was begun and never finished goes in any case. Raises `StorageUnavailable` where the store does not answer, or
    where what is needed cannot be told.
    """
    objects = {one.name: one for one in store.objects()}
    unfinished = tuple(_unfinished(store, objects.values(), mark, dry_run))
    finished = {name: one for name, one in objects.items() if not name.startswith(f"{STAGED}/")}
    total = sum(one.bytes for one in finished.values())
    if total <= most_bytes:  # so nobody has to be asked what is needed
        swept = Swept(what="artifacts", kept=len(finished), kept_bytes=total, limit_bytes=most_bytes)
    else:
        swept = _emptied(store, _Shelf.of(store, finished, mark), mark, most_bytes, dry_run)
    return swept.model_copy(update={"removed": (*unfinished, *swept.removed)})


def _emptied(store: ArtifactStore, shelf: _Shelf, mark: Mark, most_bytes: int, dry_run: bool) -> Swept:
    """What came of bringing the shelf below the limit."""

    def remove(item: Item) -> int:
        if dry_run:
            return item.size_bytes
        return sum(store.remove(part, mark.before) for part in shelf.parts[item.name])

    swept = sweep("artifacts", shelf.items, shelf.held, most_bytes, remove)
    gone = sum(len(shelf.parts[one.name]) for one in swept.removed)
    return swept.model_copy(update={"kept": len(shelf.objects) - gone})


@dataclass
class _Shelf:
    """All finished objects, sorted into what stays or goes together."""

    objects: Mapping[str, StoredObject]
    items: list[Item] = field(default_factory=list[Item])
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Objects of an item, by its name; the folder's own last, so that what is left of it can be found again."""
    held: set[str] = field(default_factory=set[str])

    @classmethod
    def of(cls, store: ArtifactStore, objects: Mapping[str, StoredObject], mark: Mark) -> _Shelf:
        """These objects, held ones among them, as of that mark."""
        shelf = cls(objects)
        shelf.held |= shelf.needed(store, mark) | shelf.young(store, mark)
        free = dict(objects)
        for name in shelf.held & free.keys():
            shelf.add(OBJECT, name, [name], free.pop(name).modified)
        past = mark.held.past_checkpoints & free.keys()
        for digest in sorted(past, key=lambda d: (free[d].modified, d), reverse=True):
            parts = [name for name in (*_files_of(store, digest), digest) if name in free]
            shelf.add(CHECKPOINT, digest, parts, free[digest].modified)
            for name in parts:
                del free[name]
        for name, one in free.items():
            shelf.add(OBJECT, name, [name], one.modified)
        return shelf

    def add(self, what: str, name: str, parts: Collection[str], used_at: datetime) -> None:
        """One item of these objects."""
        self.parts[name] = tuple(parts)
        self.items.append(Item(what, name, sum(self.objects[part].bytes for part in parts), used_at))

    def needed(self, store: ArtifactStore, mark: Mark) -> set[str]:
        """Everything that tournaments need, the files of folders included, as far as it lies in this store.

        Raises `StorageUnavailable` for a list or a record that is there and cannot be read.
        """
        held = mark.held
        folders = set(held.checkpoints)
        for record in sorted(held.live_records & self.objects.keys()):
            folders |= {digest_of(logs) for logs in (load(store, record).left.logs,) if logs}
        files = {name for digest in folders & self.objects.keys() for name in store.manifest(digest).names()}
        return folders | files | held.records

    def young(self, store: ArtifactStore, mark: Mark) -> set[str]:
        """What was kept of late, with the files of past checkpoints: keeping these may have begun long before."""
        young = {name for name, one in self.objects.items() if one.modified > mark.before}
        return young | {file for past in young & mark.held.past_checkpoints for file in _files_of(store, past)}


def _files_of(store: ArtifactStore, digest: str) -> Iterable[str]:
    """The files of a past checkpoint; none where its list cannot be read, and then each goes by itself."""
    try:
        return store.manifest(digest).names()
    except StorageUnavailable:
        return ()


def _unfinished(store: ArtifactStore, objects: Iterable[StoredObject], mark: Mark, dry_run: bool) -> Iterator[Removed]:
    """What nobody will finish any more, removed."""
    for one in objects:
        if one.name.startswith(f"{STAGED}/") and one.modified < mark.unfinished_before:
            freed = one.bytes if dry_run else store.remove(one.name, mark.unfinished_before)
            yield Removed(what=UNFINISHED, name=one.name, bytes=freed, used_at=one.modified)
