"""Questions of people to a journal in use: one SELECT, that reads nothing else, of bounded size and time."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from tourney_ray.errors import NotAllowed, UserError
from tourney_ray.store.connection import one_line

ROWS_CAP = 100_000
SECONDS = 10.0

TRUNCATED = b"truncated"
"""Key in the metadata of a result's schema that is there when the result had more rows than the cap."""

INTERRUPT_EVERY_S = 0.05


def query(
    connection: duckdb.DuckDBPyConnection, sql: str, *, rows_cap: int = ROWS_CAP, seconds: float = SECONDS
) -> pa.Table:
    """The result of one SELECT statement, at most `rows_cap` rows of it.

    `connection` is a journal's or a snapshot's; the statement has a cursor of its own and may run in any thread. A
    result that was cut has `TRUNCATED` in its schema's metadata. Raises `NotAllowed` for anything but one SELECT, and
    `UserError`, in DuckDB's words, for one that fails or takes longer than `seconds`.
    """
    cursor = connection.cursor()
    try:
        _check(cursor, sql)
        with _time_cap(cursor, seconds):
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            found = cursor.sql(sql).limit(rows_cap + 1).to_arrow_table()
            cursor.execute("ROLLBACK")
    except duckdb.InterruptException as error:
        raise UserError(
            f"the query was stopped after {seconds:g} s", "ask for less, or ask a snapshot, which knows no limit"
        ) from error
    except duckdb.Error as error:
        raise UserError(f"the query failed: {one_line(error)}") from error
    finally:
        cursor.close()
    if found.num_rows <= rows_cap:
        return found
    return found.slice(0, rows_cap).replace_schema_metadata({TRUNCATED: str(rows_cap).encode()})


def _check(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise NotAllowed(f"{len(statements)} statements are not one", "ask for one SELECT at a time")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise NotAllowed(
            f"{kind.name} is not SELECT, and a journal is only read here", "begin with SELECT, FROM or WITH"
        )


@contextmanager
def _time_cap(cursor: duckdb.DuckDBPyConnection, seconds: float) -> Generator[None]:
    """Interrupts what runs on the cursor after that time, again and again, since one may fall between two steps."""
    done = threading.Event()

    def watch() -> None:
        left = seconds
        while not done.wait(left):
            cursor.interrupt()
            left = INTERRUPT_EVERY_S

    watcher = threading.Thread(target=watch, name="query-time-cap", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
