"""A question reads the journal and nothing else, and comes to an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import Played, credit
from tourney_ray.errors import NotAllowed, UserError
from tourney_ray.store.journal import Journal
from tourney_ray.store.queries import TRUNCATED, query


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    opened = Journal.open(folder)
    yield opened
    opened.close()


def test_a_select_gives_an_arrow_table(journal: Journal, played: Played) -> None:
    found = query(journal.database(), "SELECT kind, count(*) AS n FROM journal GROUP BY kind ORDER BY kind;")
    assert found.column_names == ["kind", "n"]
    assert sum(found["n"].to_pylist()) == len(played.facts)
    times = query(journal.database(), "FROM journal LIMIT 1")
    assert str(times.schema.field("recorded_at").type) == "timestamp[us, tz=UTC]"


@pytest.mark.parametrize("sql", ["DESCRIBE journal", "SHOW TABLES", "VALUES (1)", "WITH a AS (SELECT 1) FROM a"])
def test_what_only_reads_is_a_select(journal: Journal, sql: str) -> None:
    assert query(journal.database(), sql).num_rows > 0


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE journal",
        "COPY journal TO 'stolen.csv'",
        "ATTACH '/etc/passwd' AS x",
        "PRAGMA database_list",
        "SET lock_configuration = false",
        "INSERT INTO balances VALUES ('me', 1)",
        "UPDATE journal SET body = ''",
        "DELETE FROM journal",
        "DROP TABLE journal",
        "CREATE TABLE mine AS SELECT 1",
        "EXPORT DATABASE 'stolen'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CALL duckdb_functions()",
        "BEGIN",
        "EXPLAIN ANALYZE DELETE FROM journal",
        "",
        "-- nothing",
    ],
)
def test_anything_else_is_refused(journal: Journal, sql: str) -> None:
    before = journal.state
    with pytest.raises(NotAllowed, match=r"is not SELECT|statements are not one"):
        query(journal.database(), sql)
    journal.append([credit("later", number=2)], journal.last.at if journal.last else pytest.fail("empty"))
    assert journal.state.seq == before.seq + 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('{folder}/secret')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SELECT getenv('HOME')",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
        "SELECT * FROM read_text('https://example.com/')",
        "SELECT * FROM pyobject",
        "SELEC 1",
        "SELECT no_such_column FROM journal",
        "SELECT 1 WHERE ? = 1",
    ],
)
def test_what_it_may_not_reach_is_one_line(journal: Journal, folder: Path, sql: str) -> None:
    pyobject = {"a": [1]}
    (folder / "secret").write_text("a seed")
    with pytest.raises(UserError, match="the query failed: ") as caught:
        query(journal.database(), sql.format(folder=folder))
    assert "\n" not in caught.value.message
    assert "a seed" not in caught.value.message
    assert pyobject


def test_rows_are_capped_and_it_shows(journal: Journal) -> None:
    found = query(journal.database(), "SELECT * FROM range(1000000000)", rows_cap=10)
    assert found["range"].to_pylist() == list(range(10))
    assert found.schema.metadata[TRUNCATED] == b"10"
    whole = query(journal.database(), "SELECT * FROM range(10)", rows_cap=10)
    assert whole.num_rows == 10
    assert not whole.schema.metadata


def test_it_is_stopped_at_its_time_cap(journal: Journal) -> None:
    endless = "SELECT count(*) FROM range(100000000000) a, range(9) b WHERE a.range % 7 = b.range"
    started = time.monotonic()
    with pytest.raises(UserError, match=r"stopped after 0\.2 s"):
        query(journal.database(), endless, seconds=0.2)
    assert time.monotonic() - started < 5
    assert query(journal.database(), "SELECT 1").num_rows == 1


def test_the_journal_goes_on_beside_a_long_query(journal: Journal) -> None:
    endless = "SELECT count(*) FROM range(100000000000) a, range(9) b WHERE a.range % 7 = b.range"
    ended: list[UserError] = []

    def ask() -> None:
        with pytest.raises(UserError) as caught:
            query(journal.database(), endless, seconds=1.0)
        ended.append(caught.value)

    asking = threading.Thread(target=ask)
    asking.start()
    assert journal.last
    for number in range(2, 7):
        journal.append([credit("beside", number=number)], journal.last.at)
    assert asking.is_alive(), "the query ended before the appends"
    asking.join()
    assert len(ended) == 1
