"""What has to go where more lies than its limit allows: the oldest first, and never what is held.

Knows no disk: `retention_caches`, `retention_artifacts` and `engine.images` say what is there and remove it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import computed_field

from tourney_ray.core.holdings import Holdings
from tourney_ray.core.record import Record

MARGIN = timedelta(hours=1)
"""Before a mark, in which nothing counts as old: longer than anybody uses what no fact names yet, than an object may be
counted on elsewhere without being written again, and than clocks differ."""

UNFINISHED_AFTER = timedelta(days=1)
"""Before a mark: what was begun earlier and not finished is left by somebody who died."""


@dataclass(frozen=True)
class Mark:
    """What was needed at one moment. Whoever took something into use after that has made it young."""

    held: Holdings
    before: datetime
    """Only what was last used or written before may be removed."""

    @property
    def unfinished_before(self) -> datetime:
        """What was begun before and never finished is removed, whatever the limits."""
        return self.before - UNFINISHED_AFTER


@dataclass(frozen=True)
class Item:
    """Something that can be removed as a whole."""

    what: str
    """What it is, for people."""
    name: str
    """Unique among all that share a limit."""
    size_bytes: int
    """Room that its removal makes, by itself."""
    used_at: datetime
    """When it was last used or, where nobody keeps that, made. Aware, UTC."""


class Removed(Record):
    """Something that was removed, or would be."""

    what: str
    name: str
    bytes: int
    """Room that this made."""
    used_at: datetime


class Swept(Record):
    """What one limit came to on one node."""

    what: str
    """`images`, `caches` or `artifacts`."""
    removed: tuple[Removed, ...] = ()
    """Oldest first."""
    kept: int = 0
    kept_bytes: int = 0
    limit_bytes: int = 0
    left: tuple[str, ...] = ()
    """What would have been removed and could not be, and why."""
    trouble: str = ""
    """Why this was not looked at, or not to its end; empty when it was."""

    @computed_field
    @property
    def freed_bytes(self) -> int:
        """By all that was removed."""
        return sum(one.bytes for one in self.removed)


class NodeSwept(Record):
    """What the limits of one node came to."""

    node: str
    swept: tuple[Swept, ...] = ()
    trouble: str = ""
    """Why the node could not be asked; empty when it could."""


def mark_of(ask: Callable[[], Holdings], now: datetime) -> Mark:
    """The mark of the moment `now`, that is of before `ask` is asked.

    What an attempt leaves that is not on record yet lies there already, perhaps, and was written after it began.
    """
    held = ask()
    return Mark(held, min(now, held.collecting_since or now) - MARGIN)


def to_remove(items: Iterable[Item], held: Collection[str], most_bytes: int) -> list[Item]:
    """Those of the items that go, oldest first, until all that stays takes up at most `most_bytes` bytes.

    The names in `held` stay, also where they alone take up more.
    """
    everything = list(items)
    over = sum(item.size_bytes for item in everything) - most_bytes
    gone: list[Item] = []
    for item in sorted(everything, key=lambda item: (item.used_at, item.name)):
        if over <= 0:
            break
        if item.name not in held and item.size_bytes > 0:
            gone.append(item)
            over -= item.size_bytes
    return gone


def sweep(
    what: str,
    items: Collection[Item],
    held: Collection[str],
    most_bytes: int,
    remove: Callable[[Item], int | str],
) -> Swept:
    """Remove what `to_remove` says: `remove` returns the bytes that it freed, or why the item has to stay.

    In place of one that stays the next older one goes.
    """
    left: dict[str, str] = {}
    removed: dict[str, Removed] = {}
    while True:
        there = [item for item in items if item.name not in removed]
        for item in to_remove(there, {*held, *left}, most_bytes):
            freed = remove(item)
            if isinstance(freed, str):
                left[item.name] = f"{item.what} {item.name}: {freed}"
                break
            removed[item.name] = Removed(what=item.what, name=item.name, bytes=freed, used_at=item.used_at)
        else:
            return Swept(
                what=what,
                removed=tuple(removed.values()),
                kept=len(items) - len(removed),
                kept_bytes=sum(item.size_bytes for item in items if item.name not in removed),
                limit_bytes=most_bytes,
                left=tuple(left.values()),
            )
