"""Nothing that anybody does to a journal's database goes unseen, in its rows or in its bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from tests.store.judging import complaint, refused
from tests.store.mutations import (
    DOCUMENTS,
    ENTRIES,
    FORGERIES,
    PLAYED,
    WHOLE,
)
from tourney_ray.core.chain import Entry
from tourney_ray.errors import TourneyError
from tourney_ray.store.agreement import check_agreement
from tourney_ray.store.journal import Journal
from tourney_ray.store.tables import ENTRY_COLUMNS

# --- rows of the database


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of ENTRIES, its lines beside it."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "journal.jsonl").write_bytes(WHOLE)
    Journal.open(folder).close()
    return folder


@pytest.fixture
def spoiled(written: Path, tmp_path: Path) -> Callable[..., Path]:
    """A database on which statements were run, its lines gone."""

    def spoil(*statements: str, rows: list[Entry] | None = None) -> Path:
        database = Path(shutil.copy(written / "journal.duckdb", tmp_path))
        with duckdb.connect(database) as connection:
            for sql in statements:
                connection.execute(sql)
            if rows is not None:
                _replace_rows(connection, rows)
        return database

    return spoil


def _replace_rows(connection: duckdb.DuckDBPyConnection, rows: list[Entry]) -> None:
    connection.execute("DELETE FROM journal")
    values: list[Any] = []
    for row in rows:
        values += [row.seq, row.at, row.kind, getattr(row, "tournament_id", None), row.body, row.previous, row.hash]
    places = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(rows))
    connection.execute(f"INSERT INTO journal ({', '.join(ENTRY_COLUMNS)}) VALUES {places}", values)


def retyped(**columns: str) -> list[str]:
    """Statements that make the journal's table anew, with other columns and no constraint."""
    chosen = ", ".join(f"{columns.get(name, name)} AS {name}" for name in ENTRY_COLUMNS)
    return [f"CREATE TABLE spoiled AS SELECT {chosen} FROM journal ORDER BY seq", *RENAMED]


RENAMED = ["DROP TABLE journal", "ALTER TABLE spoiled RENAME TO journal"]

STATEMENTS: dict[str, list[str]] = {
    "a row is missing": ["DELETE FROM journal WHERE seq = 33"],
    "the first row is missing": ["DELETE FROM journal WHERE seq = 1"],
    "a row lies elsewhere": ["UPDATE journal SET seq = 1000 WHERE seq = 33"],
    "two rows are exchanged": ["UPDATE journal SET body = j.body FROM journal j WHERE journal.seq + j.seq = 67"],
    "a row is there twice": [*retyped(), "INSERT INTO journal SELECT * FROM journal WHERE seq = 7"],
    "a time goes back": ["UPDATE journal SET recorded_at = recorded_at - INTERVAL 1 YEAR WHERE seq = 33"],
    "a time is infinite": ["UPDATE journal SET recorded_at = 'infinity' WHERE seq = 33"],
    "all times are infinite": retyped(recorded_at="'-infinity'::TIMESTAMPTZ"),
    "a time is before all": ["UPDATE journal SET recorded_at = '4714-01-01 (BC) 00:00:00+00' WHERE seq = 33"],
    "a time is after all": ["UPDATE journal SET recorded_at = '200000-01-01 00:00:00+00' WHERE seq = 33"],
    "times are text": retyped(recorded_at="recorded_at::VARCHAR"),
    "times are NULL": retyped(recorded_at="NULL::TIMESTAMPTZ"),
    "times are of a day": retyped(recorded_at="recorded_at::DATE"),
    "numbers are text": retyped(seq="seq::VARCHAR"),
    "numbers are halves": retyped(seq="seq + 0.5"),
    "numbers are huge": retyped(seq="seq::HUGEINT + 170141183460469231731687303715884105000"),
    "numbers are floating": retyped(seq="seq::DOUBLE"),
    "a number is NULL": retyped(seq="CASE WHEN seq = 33 THEN NULL ELSE seq END"),
    "the last number is NULL": retyped(seq="CASE WHEN seq < (SELECT max(seq) FROM journal) THEN seq END"),
    "kinds are numbers": retyped(kind="seq"),
    "kinds draw on the terminal": retyped(kind="kind || chr(10) || chr(27) || '[31m'"),
    "bodies are bytes": retyped(body="'\\xFF\\xFE'::BLOB"),
    "bodies are lists": retyped(body="[body]"),
    "bodies are NULL": retyped(body="NULL::VARCHAR"),
    "hashes are numbers": retyped(hash="1"),
    "columns are missing": ["CREATE TABLE spoiled AS SELECT seq, body FROM journal", *RENAMED],
    "the journal is a view": ["ALTER TABLE journal RENAME TO mine", "CREATE VIEW journal AS SELECT * FROM mine"],
    "a function is another one": ["CREATE MACRO epoch_us(x) AS 5"],
    "the version is gone": ["DELETE FROM meta"],
    "the version is text": ["DROP TABLE meta", "CREATE TABLE meta AS SELECT 'x' AS schema_version"],
    "the version has no column": ["DROP TABLE meta", "CREATE TABLE meta (a INTEGER)"],
    "a table has other keys": ["DROP TABLE balances", "CREATE TABLE balances (coldkey VARCHAR[], rao BIGINT)"],
}


def test_the_unspoiled_database_passes(spoiled: Callable[..., Path]) -> None:
    assert complaint(spoiled()) == ""


@pytest.mark.parametrize("statements", STATEMENTS.values(), ids=STATEMENTS.keys())
def test_a_spoiled_database_is_refused(spoiled: Callable[..., Path], statements: list[str]) -> None:
    assert complaint(spoiled(*statements))


@pytest.mark.parametrize("body", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_a_row_that_is_no_fact_is_refused(spoiled: Callable[..., Path], body: str) -> None:
    quoted = body.replace("\0", "") or " "
    assert refused(spoiled(f"UPDATE journal SET body = '{quoted}' WHERE seq = 33")).startswith("fact 33 (")


def test_forged_rows_are_refused_or_have_another_head(spoiled: Callable[..., Path]) -> None:
    """Their tables are still the honest ones, so that even what could be true is found."""
    for seed in range(20):
        rows = FORGERIES[seed % len(FORGERIES)](Random(100 + seed))
        assert complaint(spoiled(rows=rows)) or rows == ENTRIES


def test_a_database_cut_at_its_end_is_found_by_its_tables(spoiled: Callable[..., Path], written: Path) -> None:
    for number in (1, 30, 200, len(ENTRIES) - 1):
        database = spoiled(f"DELETE FROM journal WHERE seq > {number}")
        assert complaint(database)
        beside = Path(shutil.copy(written / "journal.jsonl", database.parent))
        with pytest.raises(TourneyError, match="table "):
            check_agreement(database)
        beside.unlink()


# --- bytes of the database

READER = """
import sys
from pathlib import Path
from random import Random
from tests.store.judging import complaint

folder, base, log, seeds = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
files = {"journal.duckdb": base.read_bytes(), "journal.duckdb.wal": log.read_bytes() if log.exists() else b""}
for seed in range(seeds):
    dice = Random(seed)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    name = dice.choice([name for name, content in files.items() if content]) if seed % 4 else "journal.duckdb"
    place = dice.randrange(len(files[name]))
    how = dice.randrange(3)
    whole = bytearray(files[name])
    if how == 0:
        whole[place] ^= 1 << dice.randrange(8)
    elif how == 1:
        whole[place : place + 64] = bytes(len(whole[place : place + 64]))
    else:
        del whole[place:]
    (folder / name).write_bytes(whole)
    if not files["journal.duckdb.wal"]:
        (folder / "journal.duckdb.wal").unlink()
    print(complaint(folder / "journal.duckdb") or "equal", flush=True)
"""


@pytest.mark.parametrize("with_log", [False, True], ids=["closed", "killed"])
def test_a_damaged_file_is_an_error_or_harmless(written: Path, tmp_path: Path, with_log: bool) -> None:
    """In a process of its own: a database engine that is fed rubbish may take its process with it."""
    base, log = tmp_path / "base", tmp_path / "log"
    shutil.copy(written / "journal.duckdb", base)
    if with_log:
        journal = Journal.open(tmp_path / "state")
        for at, facts in groupby(PLAYED.facts, key=lambda pair: pair[1]):
            journal.append([fact for fact, _ in facts], at)
        journal.database()
        for name, kept in (("journal.duckdb", base), ("journal.duckdb.wal", log)):
            shutil.copy(tmp_path / "state" / name, kept)
        journal.close()
        assert log.stat().st_size > 100_000
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "journal.jsonl").write_bytes(WHOLE)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", READER, folder, base, log, "16"],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 16
    assert {line for line in said if line != "equal"}
