"""What every journal promises, the real one and the one in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import groupby
from pathlib import Path

import pytest

from tests.builders import START, Played, credit, entries
from tests.builders_eventful import eventful
from tests.contract.journals import AnyJournal, Disk, MemoryDisk, RealDisk, told
from tourney_ray.core import events as e
from tourney_ray.core.chain import Entry
from tourney_ray.core.state import State
from tourney_ray.errors import AuditDifference, IllegalTransition, JournalConflict, StorageUnavailable
from tourney_ray.store.lines import entry_line, read_line
from tourney_ray.store.memory import MemoryJournal, MemoryStore


def lines_of(disk: Disk) -> Iterator[Entry]:
    """The entries that a disk's lines hold."""
    for line in disk.copy().splitlines(keepends=True):
        yield read_line(line, "a line")[0]


STRANGER = e.EntrantRefused(tournament_id="none", hotkey="a", number=1, because="")
"""A fact that cannot follow from anything here."""


@pytest.fixture(scope="module")
def played() -> Played:
    return eventful()


@pytest.fixture(params=["database", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(tmp_path / "state") if request.param == "database" else MemoryDisk()


@pytest.fixture
def opened(disk: Disk) -> Iterator[Callable[[], AnyJournal]]:
    """A further handle on the disk, closed at the end."""
    journals: list[AnyJournal] = []

    def open_it() -> AnyJournal:
        journals.append(disk.open())
        return journals[-1]

    yield open_it
    for journal in journals:
        journal.close()


def test_a_new_journal_is_empty(disk: Disk, opened: Callable[[], AnyJournal]) -> None:
    journal = opened()
    assert journal.last is None
    assert journal.state == State()
    assert list(journal.entries()) == []
    assert journal.append([], START) == []
    assert disk.copy() == b""


def test_every_kind_of_fact_is_read_back(disk: Disk, opened: Callable[[], AnyJournal], played: Played) -> None:
    assert {fact.kind for fact, _ in played.facts} == set(e.FACT.json_schema()["discriminator"]["mapping"])
    due = entries(played.facts)
    journal = opened()
    given = [
        entry
        for at, group in groupby(played.facts, key=lambda pair: pair[1])
        for entry in journal.append([fact for fact, _ in group], at)
    ]
    assert given == due
    assert (told(journal.state), journal.last) == (told(played.state), due[-1])
    journal.close()
    again = opened()
    assert (told(again.state), again.last, list(again.entries())) == (told(played.state), due[-1], due)
    assert list(lines_of(disk)) == due


def test_entries_begin_where_they_are_asked_for(opened: Callable[[], AnyJournal], played: Played) -> None:
    journal = opened()
    given = journal.append([fact for fact, _ in played.facts[:12]], START)
    assert list(journal.entries(after=9)) == given[9:]
    assert list(journal.entries(after=12)) == []
    assert list(journal.entries(after=99)) == []


def test_time_never_goes_back(opened: Callable[[], AnyJournal]) -> None:
    journal = opened()
    journal.append([credit("a")], START)
    (entry,) = journal.append([credit("b")], START - timedelta(hours=1))
    assert entry.at == START
    with pytest.raises(ValueError, match="no time zone"):
        journal.append([credit("c")], datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_every_time_zone_is_recorded_as_utc(opened: Callable[[], AnyJournal]) -> None:
    journal = opened()
    (entry,) = journal.append([credit("a")], START.astimezone(timezone(timedelta(hours=5))))
    assert (entry.at, entry.at.utcoffset()) == (START, timedelta(0))
    journal.close()
    assert list(opened().entries()) == [entry]


def test_of_facts_of_which_one_cannot_follow_none_is_recorded(disk: Disk, opened: Callable[[], AnyJournal]) -> None:
    journal = opened()
    journal.append([credit("a")], START)
    before, last, copied = journal.state, journal.last, disk.copy()
    with pytest.raises(IllegalTransition):
        journal.append([credit("b"), STRANGER], START)
    assert (journal.state, journal.last) == (before, last)
    assert (list(journal.entries()), disk.copy()) == ([last], copied)
    journal.append([credit("b")], START)
    assert journal.state.seq == 2


def test_a_disk_that_fails_keeps_nothing(disk: Disk, opened: Callable[[], AnyJournal]) -> None:
    journal = opened()
    (first,) = journal.append([credit("a")], START)
    with disk.failing(), pytest.raises(StorageUnavailable):
        journal.append([credit("b"), credit("c")], START)
    assert (journal.last, list(journal.entries()), disk.copy()) == (first, [first], entry_line(first))
    journal.append([credit("c")], START)
    journal.close()
    assert opened().state.balances == {"c-a": 10**9, "c-c": 10**9}


def test_a_disk_that_fails_before_a_crash_kept_nothing(disk: Disk, opened: Callable[[], AnyJournal]) -> None:
    journal = opened()
    with disk.failing(), pytest.raises(StorageUnavailable):
        journal.append([credit("a"), credit("b")], START)
    journal.close()
    again = opened()
    assert again.state == State()
    again.append([credit("b")], START)
    assert again.state.balances == {"c-b": 10**9}


def test_what_was_recorded_together_says_so(disk: Disk, opened: Callable[[], AnyJournal]) -> None:
    first, second, third = opened().append([credit("a"), credit("b"), credit("c")], START)
    due = entry_line(first, more=True) + entry_line(second, more=True) + entry_line(third)
    assert disk.copy() == due
    assert due.count(b'"more":true') == 2


def test_of_two_writers_the_second_is_refused(opened: Callable[[], AnyJournal]) -> None:
    one, other = opened(), opened()
    one.append([credit("a")], START)
    with pytest.raises(JournalConflict, match="ends with fact 1, this writer knows 0"):
        other.append([credit("b")], START)
    assert (other.state, other.last) == (State(), None)
    one.append([credit("b")], START)
    assert one.state.seq == 2


def test_a_closed_journal_records_nothing(opened: Callable[[], AnyJournal]) -> None:
    journal = opened()
    journal.close()
    with pytest.raises(StorageUnavailable, match="facts 1 to 1 cannot be recorded"):
        journal.append([credit("a")], START)
    assert opened().state == State()


def test_both_read_what_the_other_wrote(tmp_path: Path, played: Played) -> None:
    """The lines of either are the other's content."""
    store = MemoryStore()
    MemoryJournal.open(store).append([fact for fact, _ in played.facts[:50]], START)
    (tmp_path / "journal.jsonl").write_bytes(b"".join(store.lines))
    real = RealDisk(tmp_path).open()
    real.append([played.facts[50][0]], START)
    back = MemoryJournal.open(MemoryStore(RealDisk(tmp_path).copy().splitlines(keepends=True)))
    assert (back.state, back.last) == (real.state, real.last)
    real.close()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (
            lambda lines: [*lines[:3], lines[3].replace(b"TransferCredited", b"Charged", 1), *lines[4:]],
            r"fact 4 \(Charged\): its",
        ),
        (lambda lines: [*lines[:2], *lines[3:]], "fact 3 is due"),
        (lambda lines: [*lines[:-1], lines[-1][:-1]], "line 9 of the store is cut short"),
        (lambda lines: [b"hello\n"], "line 1 of the store is no entry"),
    ],
)
def test_an_altered_memory_is_not_opened(played: Played, spoil: Callable[[list[bytes]], list[bytes]], why: str) -> None:
    lines = [entry_line(entry) for entry in entries(played.facts[:9])]
    with pytest.raises(AuditDifference, match=why):
        MemoryJournal.open(MemoryStore(spoil(lines)))
