"""A journal in memory that keeps the contract of `Journal`, for simulations and tests of many tournaments.

A `MemoryStore` stands for the disk: it outlives the journals that are opened on it, so dropping one and opening another
is a crash and its recovery. It holds the journal's lines and nothing else; opening verifies every one of them.
What only a database refuses, such as a number beyond 64 bits, is taken here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from tourney_ray.core.chain import Entry
from tourney_ray.core.events import Fact
from tourney_ray.core.state import State
from tourney_ray.errors import JournalConflict, StorageUnavailable
from tourney_ray.store.lines import batch_lines, read_line
from tourney_ray.store.steps import next_steps, replayed

Hook = Callable[[Sequence[Entry]], None]


def _nothing(entries: Sequence[Entry]) -> None:
    """What a hook does unless somebody sets another one."""


class MemoryStore:
    """The disk under journals in memory."""

    def __init__(self, lines: Sequence[bytes] = ()) -> None:
        self.lines = list(lines)
        """What is durable: the line of each entry, as `batch_lines` writes it."""
        self.before_append: Hook = _nothing
        """Sees entries that are about to become durable; when it raises, none of them does."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Make entries durable, all or none; raises `JournalConflict` unless they follow the last line."""
        first = entries[0].seq
        if len(self.lines) != first - 1:
            raise JournalConflict(
                f"the journal ends with fact {len(self.lines)}, this writer knows {first - 1}",
                "end the other writer and open the journal again",
            )
        self.before_append(entries)
        self.lines += batch_lines(entries)


class MemoryJournal:
    """An open journal in memory; make one with `MemoryJournal.open`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._last: Entry | None = None
        self._state = State()
        self._closed = False

    @classmethod
    def open(cls, store: MemoryStore) -> MemoryJournal:
        """The journal that the store holds, replayed; raises `AuditDifference` when it was altered."""
        journal = cls(store)
        for step in replayed(journal.entries()):
            journal._last, journal._state = step.entry, step.state
        return journal

    @property
    def last(self) -> Entry | None:
        """The last entry; None while there is none."""
        return self._last

    @property
    def state(self) -> State:
        """The state after the last entry."""
        return self._state

    def append(self, facts: Sequence[Fact], at: datetime) -> list[Entry]:
        """Record facts at that moment, all or none; their entries, once the store has them.

        A moment before the last entry's counts as that one. Raises `IllegalTransition` when a fact cannot follow,
        `JournalConflict` when somebody else has written, `StorageUnavailable` when it is closed, and whatever the
        store's hook raises.
        """
        entries, state = list[Entry](), self._state
        for step in next_steps(self._last, self._state, facts, at):
            entries.append(step.entry)
            state = step.state
        if not entries:
            return []
        if self._closed:
            raise StorageUnavailable(f"facts {entries[0].seq} to {entries[-1].seq} cannot be recorded: it is closed")
        self._store.append(entries)
        self._last, self._state = entries[-1], state
        return entries

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """The entries beyond that seq, in order."""
        for number, line in enumerate(islice(self._store.lines, after, None), start=after + 1):
            entry, _ = read_line(line, f"line {number} of the store")
            yield entry

    def close(self) -> None:
        """Let go of the store; nothing can be recorded through this journal any more."""
        self._closed = True
