"""The journal keeps what it acknowledged and refuses what was altered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import duckdb
import pytest

from tests.builders import START, credit, entries
from tourney_ray.core.chain import chain, entry_hash
from tourney_ray.core.state import State
from tourney_ray.errors import (
    AuditDifference,
    ConfigError,
    NotAllowed,
    StorageUnavailable,
)
from tourney_ray.store.journal import Journal
from tourney_ray.store.lines import entry_line, read_lines
from tourney_ray.store.projector import Projector
from tourney_ray.store.sources import read_entries
from tourney_ray.store.tables import Block

WRITER = """
import itertools, sys
from pathlib import Path
from unittest.mock import patch
from tests.builders import START, credit
from tourney_ray.store.journal import Journal

journal = Journal.open(Path(sys.argv[1]))
for number in itertools.count(journal.state.seq + 1):
    journal.append([credit("a", number=2 * number), credit("b", number=2 * number + 1)], START)
    print(journal.last.seq, flush=True)
"""

HOLDER = """
import sys
from pathlib import Path
from unittest.mock import patch
from tourney_ray.store.journal import Journal

journal = Journal.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def run(script: str, folder: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def edit(database: Path, sql: str) -> None:
    connection = duckdb.connect(database)
    connection.execute(sql)
    connection.close()


def test_appending_gives_the_chained_entries(tmp_path: Path, opened: Callable[[Path], Journal]) -> None:
    journal = opened(tmp_path / "other.duckdb")
    given = journal.append([credit("a"), credit("b")], START)
    assert given == entries([(credit("a"), START), (credit("b"), START)])
    assert (tmp_path / "other.jsonl").read_bytes() == entry_line(given[0], more=True) + entry_line(given[1])


def test_what_was_appended_is_on_the_disk(tmp_path: Path, opened: Callable[[Path], Journal]) -> None:
    """Before anybody is told, the tables included."""
    journal, done = opened(tmp_path), list[str]()
    fsync, put = os.fsync, Projector.put

    def synced(file: int) -> None:
        done.append(f"{os.fstat(file).st_size} bytes")
        fsync(file)

    def taken(projector: Projector, block: Block) -> None:
        done.append("tables")
        put(projector, block)

    with patch.object(os, "fsync", synced), patch.object(Projector, "put", taken):
        journal.append([credit("a"), credit("b")], START)
    assert done == [f"{(tmp_path / 'journal.jsonl').stat().st_size} bytes", "tables"]


def test_a_number_that_no_table_can_hold_changes_nothing(tmp_path: Path, opened: Callable[[Path], Journal]) -> None:
    journal = opened(tmp_path)
    journal.append([credit("a")], START)
    before, copied = journal.state, (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(StorageUnavailable, match="facts 2 to 3 cannot be recorded"):
        journal.append([credit("b"), credit("c", rao=2**70)], START)
    assert journal.state is before
    assert journal.database().execute("SELECT count(*) FROM transfers").fetchone() == (1,)
    assert (tmp_path / "journal.jsonl").read_bytes() == copied


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    with run(HOLDER, tmp_path) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(NotAllowed, match=rf"in use by .*\(PID {holder.pid}\)"):
            Journal.open(tmp_path)
        holder.communicate("")


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path, opened: Callable[[Path], Journal]) -> None:
    acknowledged = 0
    for lines in (3, 12, 7):
        with run(WRITER, tmp_path) as writer:
            assert writer.stdout
            for _ in range(lines):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().splitlines())])
        journal = opened(tmp_path)
        assert journal.state.seq >= acknowledged
        assert journal.state.seq % 2 == 0, "half of an append was kept"
        assert list(read_lines(tmp_path / "journal.jsonl")) == list(journal.entries())
        assert sum(journal.state.balances.values()) == journal.state.seq * 10**9
        journal.close()


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (
            "UPDATE journal SET body = replace(body, 'm07', 'm06') WHERE seq = 8",
            r"fact 8 \(TransferCredited\): its hash",
        ),
        ("UPDATE journal SET recorded_at = recorded_at + INTERVAL 1 SECOND WHERE seq = 12", "fact 12 .*altered"),
        ("UPDATE journal SET recorded_at = 'infinity' WHERE seq = 12", "row 12 .*impossible time"),
        ("UPDATE journal SET kind = 'Charged' WHERE seq = 3", "fact 3 .*altered"),
        ("UPDATE journal SET hash = previous WHERE seq = 40", "fact 40 .*altered"),
        ("DELETE FROM journal WHERE seq = 20", "fact 20 is due"),
        ("DELETE FROM journal WHERE seq = 1", "fact 1 is due"),
    ],
)
def test_an_altered_database_is_refused(folder: Path, sql: str, why: str) -> None:
    database = folder / "journal.duckdb"
    edit(database, sql)
    (folder / "journal.jsonl").unlink()
    with pytest.raises(NotAllowed, match=why):
        Journal.open(database)


def test_a_forged_fact_with_right_hashes_is_refused_when_it_cannot_follow(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.append([credit("a")], START)
    forged = chain(journal.last, credit("a"), START)
    assert forged.hash == entry_hash(2, START, forged.kind, forged.body, forged.previous)
    journal.database().execute(
        "INSERT INTO journal VALUES (?, ?, ?, NULL, ?, ?, ?)",
        [2, START, forged.kind, forged.body, forged.previous, forged.hash],
    )
    journal.close()
    with pytest.raises(NotAllowed, match="the transfer was credited before"):
        Journal.open(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Journal.open(tmp_path).close()
    edit(tmp_path / "journal.duckdb", "UPDATE meta SET schema_version = 99")
    with pytest.raises(NotAllowed, match="has schema 99; this tourney_ray knows schemas up to 4"):
        Journal.open(tmp_path)


def test_facts_without_a_schema_version_are_not_taken_for_none(folder: Path) -> None:
    edit(folder / "journal.duckdb", "DELETE FROM meta")
    for read in (Journal.open, lambda path: list(read_entries(path))):
        with pytest.raises(AuditDifference, match="facts, but not the version of its schema"):
            read(folder)


@pytest.mark.parametrize("version", ["'x'", "'nan'::DOUBLE", "'a'::BLOB"])
def test_a_schema_version_that_is_no_number_is_refused(folder: Path, version: str) -> None:
    database = folder / "journal.duckdb"
    edit(database, f"DROP TABLE meta; CREATE TABLE meta AS SELECT {version} AS schema_version")
    with pytest.raises(ConfigError, match="schema version that is no number"):
        Journal.open(database)


def test_a_database_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    edit(tmp_path / "journal.duckdb", "CREATE TABLE recipes (name VARCHAR)")
    with pytest.raises(ConfigError, match="is a DuckDB database, but no journal"):
        Journal.open(tmp_path)


def test_a_creation_that_was_cut_is_taken_up(tmp_path: Path, opened: Callable[[Path], Journal]) -> None:
    Journal.open(tmp_path).close()
    edit(tmp_path / "journal.duckdb", "DELETE FROM meta")
    assert opened(tmp_path).state == State()


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 20_000])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.duckdb").write_bytes(content)
    with pytest.raises(ConfigError, match="is not a DuckDB database"):
        Journal.open(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be opened"):
        Journal.open(tmp_path / "file" / "state")


def test_a_wal_without_its_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.duckdb.wal").write_bytes(b"precious")
    with pytest.raises(NotAllowed, match="without its database"):
        Journal.open(tmp_path)
    assert (tmp_path / "journal.duckdb.wal").read_bytes() == b"precious"
