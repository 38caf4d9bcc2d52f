"""Whatever happens to two journals in whatever order, the real one, the one in memory and a plain fold say the same."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.builders import credit
from tests.builders_eventful import eventful
from tests.contract.journals import AnyJournal, Disk, MemoryDisk, RealDisk, told
from tourney_ray.core import events as e
from tourney_ray.core.chain import Entry, chain
from tourney_ray.core.evolve import evolve
from tourney_ray.core.state import State
from tourney_ray.errors import IllegalTransition, JournalConflict, StorageUnavailable
from tourney_ray.store.journal import Journal
from tourney_ray.store.queries import query
from tourney_ray.store.second_copy import entry_line
from tourney_ray.store.snapshot import open_snapshot, snapshot
from tourney_ray.store.tables_check import table_differences

SCRIPT = eventful().facts
STRANGER = e.EntrantRefused(tournament_id="none", hotkey="a", number=1, because="")
BATCHES = st.sampled_from([1, 2, 3, 10, 40])
"""How many facts are recorded at once."""

Facts = list[e.Fact]


class Journals(RuleBasedStateMachine):
    """The same deeds done to a real journal and to one in memory, on a script of legal facts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journals-"))
        self.real, self.memory = RealDisk(self.folder / "state"), MemoryDisk()
        self.handles: dict[str, AnyJournal] = {}
        self.due: list[Entry] = []
        self.state = State()
        self.behind = False
        """Whether the real second copy lacks the facts of an append that failed too late."""
        self.compared = -1
        """Facts that the tables were last compared with."""

    # --- deeds

    @initialize()
    def open(self) -> None:
        for name, disk in self.disks().items():
            self.handles[name] = disk.open()

    @rule(count=BATCHES)
    def record(self, count: int) -> None:
        self.append(self.upcoming(count), self.now())

    @rule(count=BATCHES, hours=st.integers(1, 48))
    def record_with_a_clock_that_went_back(self, count: int, hours: int) -> None:
        at = self.due[-1].at if self.due else self.now()
        self.append(self.upcoming(count), at, given=at - timedelta(hours=hours) if self.due else at)

    @rule(count=st.integers(0, 3))
    def record_what_cannot_follow(self, count: int) -> None:
        self.fail([*self.upcoming(count), STRANGER], IllegalTransition)

    @rule(count=BATCHES)
    def record_twice_the_same(self, count: int) -> None:
        facts = self.upcoming(count)
        if facts and isinstance(facts[-1], e.TransferCredited):
            self.fail([*facts, facts[-1]], IllegalTransition)

    @rule(count=BATCHES)
    def fail_before(self, count: int) -> None:
        for name, disk in self.disks().items():
            if facts := self.upcoming(count):
                with disk.failing_before(), pytest.raises(StorageUnavailable):
                    self.handles[name].append(facts, self.now())

    @rule(count=BATCHES)
    def fail_after(self, count: int) -> None:
        if facts := self.upcoming(count):
            at = self.now()
            for name, disk in self.disks().items():
                with disk.failing_after(), pytest.raises(StorageUnavailable):
                    self.handles[name].append(facts, at)
            self.fold(facts, at)
            self.behind = True

    @rule()
    def crash(self) -> None:
        """A handle that is dropped has no say in what the disk keeps."""
        for name, disk in self.disks().items():
            self.handles.pop(name).close()
            self.handles[name] = disk.open()
            assert told(self.handles[name].state) == told(self.state)
        self.behind = False

    @rule(count=BATCHES)
    def meet_another_writer(self, count: int) -> None:
        """Somebody else opens the journal and writes; this writer is refused, and opens it again."""
        facts, at = self.upcoming(count), self.now()
        if not facts:
            return
        for name, disk in self.disks().items():
            other = disk.open()
            other.append(facts, at)
            with pytest.raises(JournalConflict):
                self.handles[name].append(facts, at)
            assert self.handles[name].state.seq == len(self.due)
            other.close()
        self.fold(facts, at)
        self.crash()

    @rule()
    def meet_a_reader(self) -> None:
        """Somebody else opens the journal, reads and goes."""
        for disk in self.disks().values():
            other = disk.open()
            assert told(other.state) == told(self.state)
            other.close()
        self.behind = False

    @rule()
    def ask(self) -> None:
        found = query(self.database.connection, "SELECT count(*) AS n, max(seq) AS last FROM journal").to_pylist()
        assert found == [{"n": len(self.due), "last": len(self.due) or None}]

    @rule()
    def take_a_snapshot(self) -> None:
        taken = open_snapshot(snapshot(self.database.connection, self.folder / "taken.duckdb"))
        try:
            assert list(table_differences(taken, self.due)) == []
        finally:
            taken.close()

    # --- what holds after each of them

    @invariant()
    def both_say_what_the_fold_says(self) -> None:
        last = self.due[-1] if self.due else None
        for journal in self.handles.values():
            assert journal.state.seq == len(self.due)
            assert journal.last == last
            assert list(journal.entries()) == self.due
            assert list(journal.entries(after=len(self.due) // 2)) == self.due[len(self.due) // 2 :]

    @invariant()
    def the_tables_are_the_replay(self) -> None:
        """The chain is verified on the way."""
        if self.handles and self.compared != len(self.due):
            assert list(table_differences(self.database.connection, self.database.entries())) == []
            self.compared = len(self.due)

    @invariant()
    def the_copies_are_the_journal(self) -> None:
        if self.handles:
            due = b"".join(map(entry_line, self.due))
            assert self.memory.copy() == due
            assert self.behind or self.real.copy() == due

    def teardown(self) -> None:
        for journal in self.handles.values():
            assert told(journal.state) == told(self.state)
            journal.close()
        shutil.rmtree(self.folder)

    # --- how it is done

    @property
    def database(self) -> Journal:
        journal = self.handles["real"]
        assert isinstance(journal, Journal)
        return journal

    def disks(self) -> dict[str, Disk]:
        return {"real": self.real, "memory": self.memory}

    def upcoming(self, count: int) -> Facts:
        """The next facts of the script; when it is played, money that arrives."""
        done = len(self.due)
        facts = [fact for fact, _ in SCRIPT[done : done + count]]
        return facts or [credit("late", number=done + n) for n in range(count)]

    def now(self) -> datetime:
        """As scripted for the next fact, but never before the last one."""
        scripted = SCRIPT[min(len(self.due), len(SCRIPT) - 1)][1]
        return max(scripted, self.due[-1].at) if self.due else scripted

    def append(self, facts: Facts, at: datetime, given: datetime | None = None) -> None:
        due = self.fold(facts, at)
        for journal in self.handles.values():
            assert journal.append(facts, given or at) == due
        self.behind = self.behind and not facts

    def fold(self, facts: Facts, at: datetime) -> list[Entry]:
        """What is due after those facts, by nothing but the core."""
        before = len(self.due)
        for fact in facts:
            self.due.append(chain(self.due[-1] if self.due else None, fact, at))
            self.state = evolve(self.state, fact, at)
        return self.due[before:]

    def fail(self, facts: Facts, error: type[Exception]) -> None:
        for journal in self.handles.values():
            with pytest.raises(error):
                journal.append(facts, self.now())


TestJournals = Journals.TestCase
Journals.TestCase.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
