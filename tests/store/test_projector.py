"""The database follows what is recorded, its readers see all of it, and nothing is lost where it cannot follow."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pytest

from tests.builders import START, credit, entries
from tourney_ray.errors import StorageUnavailable
from tourney_ray.store import projector, tables
from tourney_ray.store.journal import Journal
from tourney_ray.store.lines import read_lines
from tourney_ray.store.steps import replayed

Opened = Callable[[Path], Journal]


def count(journal: Journal) -> int:
    ((found,),) = journal.database().execute("SELECT count(*) FROM transfers").fetchall()
    return found


def test_who_reads_sees_what_was_recorded_before(tmp_path: Path, opened: Opened) -> None:
    journal = opened(tmp_path)
    with patch.object(projector, "LINGER_S", 600.0):
        for number in range(1, 6):
            journal.append([credit("a", number=number)], START)
            assert count(journal) == number


def test_many_facts_wait_for_no_reader(tmp_path: Path, opened: Opened) -> None:
    journal, written = opened(tmp_path), threading.Event()
    honest = tables.write

    def write(connection: duckdb.DuckDBPyConnection, blocks: Any) -> None:
        honest(connection, blocks)
        written.set()

    with patch.object(projector, "LINGER_S", 600.0), patch.object(tables, "write", write):
        journal.append([credit("a", number=n) for n in range(projector.MANY - 1)], START)
        assert not written.is_set()
        journal.append([credit("a", number=projector.MANY)], START)
        assert written.wait(60)


def test_what_was_recorded_meanwhile_is_written_together(tmp_path: Path, opened: Opened) -> None:
    journal, sizes = opened(tmp_path), list[int]()
    honest = tables.write

    def write(connection: duckdb.DuckDBPyConnection, blocks: Any) -> None:
        sizes.append(len(blocks))
        honest(connection, blocks)

    with patch.object(projector, "LINGER_S", 600.0), patch.object(tables, "write", write):
        for number in range(20):
            journal.append([credit("a", number=number)], START)
        assert count(journal) == 20
    assert sizes == [20]


def test_a_closed_journal_has_written_everything(tmp_path: Path, opened: Opened) -> None:
    journal = opened(tmp_path)
    with patch.object(projector, "LINGER_S", 600.0):
        journal.append([credit("a"), credit("b")], START)
        journal.close()
    with duckdb.connect(tmp_path / "journal.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM journal").fetchall() == [(2,)]


def test_tables_that_cannot_follow_stop_the_recording_and_lose_nothing(tmp_path: Path, opened: Opened) -> None:
    journal = opened(tmp_path)
    with patch.object(tables, "write", side_effect=duckdb.IOException("no space left on device")):
        journal.append([credit("a")], START)
        told = "facts 1 to 1 are recorded, but the tables did not take them: .*no space left"
        with pytest.raises(StorageUnavailable, match=told):
            journal.database()
        with pytest.raises(StorageUnavailable, match=f"facts 2 to 2 cannot be recorded: {told}"):
            journal.append([credit("b")], START)
        assert journal.state.seq == 1
        journal.close()
    again = opened(tmp_path)
    again.append([credit("b")], START)
    assert count(again) == 2
    assert list(read_lines(tmp_path / "journal.jsonl")) == list(again.entries())


def test_who_reads_has_tables_that_failed_tried_again(tmp_path: Path, opened: Opened) -> None:
    journal = opened(tmp_path)
    with patch.object(tables, "write", side_effect=duckdb.IOException("no space left on device")):
        journal.append([credit("a")], START)
        with pytest.raises(StorageUnavailable):
            journal.database()
    assert count(journal) == 1
    journal.append([credit("b")], START)
    assert count(journal) == 2


def test_a_thread_that_cannot_be_started_loses_nothing(tmp_path: Path, opened: Opened) -> None:
    journal = opened(tmp_path)
    with patch.object(ThreadPoolExecutor, "submit", side_effect=RuntimeError("can't start new thread")):
        journal.append([credit("a")], START)
        with pytest.raises(StorageUnavailable, match="can't start new thread"):
            journal.append([credit("b")], START)
        with pytest.raises(StorageUnavailable, match="can't start new thread"):
            journal.database()
    assert count(journal) == 1
    journal.append([credit("b")], START)
    assert [entry.seq for entry in read_lines(tmp_path / "journal.jsonl")] == [1, 2]


def test_who_reads_waits_for_what_was_recorded_before_and_no_longer(tmp_path: Path, opened: Opened) -> None:
    """While more and more is recorded."""
    journal, honest = opened(tmp_path), tables.write

    def write(connection: duckdb.DuckDBPyConnection, blocks: Any) -> None:
        if journal.state.seq < 5:
            journal.append([credit("a", number=journal.state.seq + 1)], START)
        else:
            raise duckdb.IOException("somebody waited for facts that came later")
        honest(connection, blocks)

    with patch.object(projector, "LINGER_S", 600.0), patch.object(tables, "write", write):
        journal.append([credit("a")], START)
        assert journal.database()


def test_what_another_journal_of_the_process_caught_up_with_is_no_conflict(tmp_path: Path, opened: Opened) -> None:
    journal = opened(tmp_path)
    with patch.object(projector, "LINGER_S", 600.0):
        journal.append([credit("a"), credit("b")], START)
        assert count(opened(tmp_path)) == 2
        journal.append([credit("c")], START)
        assert count(journal) == 3


def test_a_writer_that_breaks_off_is_told_of(tmp_path: Path, opened: Opened) -> None:
    journal = opened(tmp_path)
    with patch.object(tables, "write", side_effect=MemoryError):
        journal.append([credit("a")], START)
        with pytest.raises(StorageUnavailable, match=r"the tables did not take them: MemoryError\(\)"):
            journal.database()


def test_a_process_that_ends_writes_everything_first(tmp_path: Path) -> None:
    """Though it closes nothing: a thread that is cut off inside the database takes the process with it."""
    script = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.builders import START, credit, entries
from tourney_ray.store.journal import Journal

journal = Journal.open(Path(sys.argv[1]))
journal.append([credit("a"), credit("b")], START)
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", script, tmp_path], env=environment, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    with duckdb.connect(tmp_path / "journal.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM journal").fetchall() == [(2,)]


def test_of_what_is_written_together_only_that_is_written_which_is_missing(tmp_path: Path, opened: Opened) -> None:
    """As two journals do that catch up with the same lines."""
    journal = opened(tmp_path)
    journal.append([credit("a"), credit("b")], START)
    database = journal.database()
    steps = list(replayed(entries([(credit(name), START) for name in "abcd"])))
    for known in (2, 4):
        tables.write_anew(database, [tables.block(steps[:1], {}), tables.block(steps[1:known], {})])
        assert database.execute("SELECT count(*) FROM journal").fetchall() == [(known,)]
        assert database.execute("SELECT count(*) FROM transfers").fetchall() == [(known,)]


def test_who_opens_a_journal_while_another_one_writes_waits_for_it(tmp_path: Path, opened: Opened) -> None:
    """As the successor of a driver that was thought dead does."""
    journal, honest = opened(tmp_path), tables._upsert
    writes, waits = threading.Event(), threading.Event()

    class Watched:
        """A lock that says when somebody has to wait for it."""

        lock = threading.Lock()

        def __enter__(self) -> None:
            if not self.lock.acquire(blocking=False):
                waits.set()
                self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    def upsert(connection: duckdb.DuckDBPyConnection, rows: Any) -> None:
        honest(connection, rows)
        writes.set()
        assert waits.wait(60), "nobody waits for the transaction that is under way"

    with (
        patch.object(tables, "WRITING", Watched()),
        patch.object(tables, "_upsert", upsert),
        ThreadPoolExecutor() as pool,
    ):
        journal.append([credit("a")], START)
        first = pool.submit(count, journal)
        assert writes.wait(60)
        other = pool.submit(opened, tmp_path).result()
        assert count(other) == first.result() == 1


def test_facts_that_the_tables_refuse_are_told(tmp_path: Path, opened: Opened) -> None:
    """Somebody wrote into a table, where nobody may."""
    journal = opened(tmp_path)
    journal.database().execute("ALTER TABLE transfers DROP COLUMN rao")
    journal.append([credit("a")], START)
    with pytest.raises(StorageUnavailable, match="facts 1 to 1 are recorded, but the tables did not take them"):
        journal.database()
