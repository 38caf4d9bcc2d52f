"""A snapshot is the whole journal at one moment, open to anybody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.builders import START, credit
from tourney_ray.errors import ConfigError, NotAllowed, NotFound, StorageUnavailable
from tourney_ray.store.journal import Journal
from tourney_ray.store.queries import query
from tourney_ray.store.snapshot import open_snapshot, snapshot
from tourney_ray.store.sources import read_entries
from tourney_ray.store.tables import KEYS

READER = """
import sys
from pathlib import Path
from tourney_ray.store.snapshot import open_snapshot
print(open_snapshot(Path(sys.argv[1])).execute("SELECT count(*) FROM journal").fetchone()[0])
"""


def test_a_snapshot_equals_the_open_journal(folder: Path, tmp_path: Path) -> None:
    journal = Journal.open(folder)
    target = snapshot(journal.database(), tmp_path / "it's here" / "copy.duckdb")
    copy = open_snapshot(target)
    for table in ("journal", "meta", *KEYS, "points", "weights", "leases"):
        sql = f"SELECT * FROM {table} ORDER BY ALL"
        assert query(copy, sql).equals(query(journal.database(), sql)), table
    assert list(read_entries(target)) == list(journal.entries())
    with pytest.raises(duckdb.InvalidInputException, match="read-only"):
        copy.execute("DELETE FROM journal")
    copy.close()
    journal.close()
    assert list((folder / "snapshots").iterdir()) == []


def test_another_process_may_read_it(folder: Path, tmp_path: Path) -> None:
    journal = Journal.open(folder)
    target = snapshot(journal.database(), tmp_path / "copy.duckdb")
    run = subprocess.run([sys.executable, "-c", READER, target], capture_output=True, text=True, check=True)
    assert int(run.stdout) == journal.state.seq
    journal.close()


def test_a_later_one_takes_its_place_and_readers_keep_theirs(folder: Path, tmp_path: Path) -> None:
    journal = Journal.open(folder)
    assert journal.last
    target = snapshot(journal.database(), tmp_path / "copy.duckdb")
    reader = open_snapshot(target)
    journal.append([credit("later", number=2)], journal.last.at)
    snapshot(journal.database(), target)
    assert reader.execute("SELECT max(seq) FROM journal").fetchone() == (journal.state.seq - 1,)
    reader.close()
    again = open_snapshot(target)
    assert again.execute("SELECT max(seq) FROM journal").fetchone() == (journal.state.seq,)
    again.close()
    journal.close()


def test_a_snapshot_that_cannot_be_written_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal.open(folder)
    with pytest.raises(StorageUnavailable, match="no snapshot at"):
        snapshot(journal.database(), tmp_path / "file" / "copy.duckdb")
    assert list((folder / "snapshots").iterdir()) == []
    assert journal.last
    journal.append([credit("later", number=2)], journal.last.at)
    journal.close()


def test_only_a_snapshot_is_opened_as_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_snapshot(tmp_path / "none.duckdb")
    duckdb.connect(tmp_path / "empty.duckdb").close()
    with pytest.raises(ConfigError, match="is an empty database"):
        open_snapshot(tmp_path / "empty.duckdb")
    (tmp_path / "text.duckdb").write_text("hello")
    with pytest.raises(ConfigError, match="not a DuckDB database"):
        open_snapshot(tmp_path / "text.duckdb")
    with duckdb.connect(tmp_path / "newer.duckdb") as newer:
        newer.execute("CREATE TABLE meta AS SELECT 7 AS schema_version; CREATE TABLE journal (seq BIGINT)")
    with pytest.raises(NotAllowed, match="schema 7"):
        open_snapshot(tmp_path / "newer.duckdb")


def test_only_an_older_snapshot_is_replaced_never_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.duckdb"
    journal = Journal.open(path)
    journal.append([credit("a")], START)
    for target in (path, path.with_suffix(".jsonl")):
        before = target.read_bytes()
        with pytest.raises(NotAllowed, match="is not replaced, it is no snapshot"):
            snapshot(journal.database(), target)
        assert target.read_bytes() == before
    twice = [snapshot(journal.database(), tmp_path / "copy.duckdb") for _ in range(2)]
    assert twice[0] == twice[1]
    journal.append([credit("b")], START)
    journal.close()
