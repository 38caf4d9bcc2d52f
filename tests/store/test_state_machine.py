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
from tourney_ray.store.lines import MORE, batch_lines, entry_line
from tourney_ray.store.queries import query
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
        self.compared = -1
        """Facts that the tables were last compared with."""

    # --- deeds

    @initialize()
    def open(self) -> None:
        for name, disk in self.disks().items():
            self.handles[name] = disk.open()
            assert told(self.handles[name].state) == told(self.state)

    @rule(count=BATCHES)
    def record(self, count: int) -> None:
        self.append(self.upcoming(count), self.now())

    @rule(count=BATCHES, hours=st.integers(1, 48))
    def record_with_a_clock_that_went_back(self, count: int, hours: int) -> None:
        at = self.due[-1].at if self.due else self.now()
        self.append(self.upcoming(count), at, given=at - timedelta(hours=hours) if self.due else at)

    @rule(count=st.integers(0, 3))
    def record_what_cannot_follow(self, count: int) -> None:
        self.refuse([*self.upcoming(count), STRANGER], IllegalTransition)

    @rule(count=BATCHES)
    def record_twice_the_same(self, count: int) -> None:
        facts = self.upcoming(count)
        if facts and isinstance(facts[-1], e.TransferCredited):
            self.refuse([*facts, facts[-1]], IllegalTransition)

    @rule(count=BATCHES)
    def fail(self, count: int) -> None:
        for name, disk in self.disks().items():
            if facts := self.upcoming(count):
                with disk.failing(), pytest.raises(StorageUnavailable):
                    self.handles[name].append(facts, self.now())

    @rule(count=BATCHES, share=st.floats(0, 1, exclude_max=True))
    def lose_power(self, count: int, share: float) -> None:
        """In the middle of an append: of the lines some are on the disk, and of the tables none."""
        if facts := self.upcoming(count):
            self.close()
            whole = b"".join(batch_lines(self.chained(facts, self.now())))
            spill(self.lines, whole[: int(share * len(whole))])
            self.open()

    @rule(lost=st.floats(0, 1))
    def lose_the_end_of_the_tables(self, lost: float) -> None:
        """As a crash before they had followed does, or one that took the whole database."""
        self.close()
        for file in self.real.folder.glob("journal.duckdb*"):
            file.unlink()
        later = cut(self.lines, int(len(self.due) * (1 - lost)))
        self.real.open().close()
        spill(self.lines, later)
        self.open()

    @rule()
    def crash(self) -> None:
        """A handle that is dropped has no say in what the disk keeps."""
        self.close()
        self.open()

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

    @rule()
    def ask(self) -> None:
        found = query(self.database.database(), "SELECT count(*) AS n, max(seq) AS last FROM journal").to_pylist()
        assert found == [{"n": len(self.due), "last": len(self.due) or None}]

    @rule()
    def take_a_snapshot(self) -> None:
        taken = open_snapshot(snapshot(self.database.database(), self.folder / "taken.duckdb"))
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
            assert list(table_differences(self.database.database(), self.database.entries())) == []
            self.compared = len(self.due)

    @invariant()
    def the_lines_are_the_journal(self) -> None:
        if self.handles:
            assert self.real.copy().replace(MORE, b"}\n") == b"".join(map(entry_line, self.due))
            assert self.memory.copy() == self.real.copy()

    def teardown(self) -> None:
        for journal in self.handles.values():
            assert told(journal.state) == told(self.state)
        self.close()
        shutil.rmtree(self.folder)

    # --- how it is done

    @property
    def database(self) -> Journal:
        journal = self.handles["real"]
        assert isinstance(journal, Journal)
        return journal

    @property
    def lines(self) -> Path:
        return self.real.folder / "journal.jsonl"

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

    def fold(self, facts: Facts, at: datetime) -> list[Entry]:
        """What is due after those facts, by nothing but the core."""
        entries = self.chained(facts, at)
        self.due += entries
        for fact in facts:
            self.state = evolve(self.state, fact, at)
        return entries

    def chained(self, facts: Facts, at: datetime) -> list[Entry]:
        entries = self.due[-1:]
        for fact in facts:
            entries.append(chain(entries[-1] if entries else None, fact, at))
        return entries[len(self.due[-1:]) :]

    def close(self) -> None:
        for journal in self.handles.values():
            journal.close()
        self.handles.clear()

    def refuse(self, facts: Facts, error: type[Exception]) -> None:
        for journal in self.handles.values():
            with pytest.raises(error):
                journal.append(facts, self.now())


def spill(file: Path, text: bytes) -> None:
    """What somebody wrote at the end, whole or not."""
    with file.open("ab") as lines:
        lines.write(text)


def cut(file: Path, number: int) -> bytes:
    """Leave at most so many lines, and none that more belong to; the others."""
    lines = file.read_bytes().splitlines(keepends=True)
    while number and lines[number - 1].endswith(MORE):
        number -= 1
    file.write_bytes(b"".join(lines[:number]))
    return b"".join(lines[number:])


TestJournals = Journals.TestCase
Journals.TestCase.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
