"""Whether the tables for people say what the journal says: every row is made anew from the entries and compared.

The tables are not hashed, and people read them rather than the journal. The rows that are due are folded here in plain
dictionaries, without the SQL that wrote the tables, so that a fault of that SQL shows as well as an edit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import duckdb

from tourney_ray.core.chain import Entry
from tourney_ray.core.quoting import shown
from tourney_ray.store.connection import schema_sql
from tourney_ray.store.projection import project
from tourney_ray.store.row import Row
from tourney_ray.store.steps import Step, replayed
from tourney_ray.store.tables import EPOCH, KEYS, plain

JOURNAL = "journal"
"""Its only column that no hash covers is checked here too."""

ROWS_PER_FETCH = 1000

TIME = "TIMESTAMP WITH TIME ZONE"
MICROS = 'CASE WHEN isinf("{0}") THEN 9223372036854775807 ELSE epoch_us("{0}") END'
"""Of a column of times: microseconds since 1970, where `epoch_us` alone would make NULL of infinity."""

Key = tuple[Any, ...]
Due = dict[str, dict[Key, dict[str, Any]]]
"""Rows by table and key; columns that no fact has settled are missing."""


def table_differences(connection: duckdb.DuckDBPyConnection, entries: Iterable[Entry]) -> Iterator[str]:
    """One line for each difference between the tables and what the entries make of them, which name table and row.

    Empty for tables that say what the journal says. The entries are read to their end first; raises `AuditDifference`
    where one does not follow, and `duckdb.Error` when a table cannot be read.
    """
    due = due_rows(replayed(entries))
    altered = list(_schema_differences(connection))
    yield from altered
    if not altered:
        for table, rows in due.items():
            yield from _row_differences(connection, table, rows)


def due_rows(steps: Iterable[Step]) -> Due:
    """The rows of every table after those steps."""
    due: Due = {table: {} for table in (JOURNAL, *KEYS)}
    for step in steps:
        tournament_id = getattr(step.fact, "tournament_id", None)
        due[JOURNAL][step.entry.seq,] = {"seq": step.entry.seq, "tournament_id": tournament_id}
        for row in project(step.fact, step.state, step.entry.at):
            values = {column: plain(value) for column, value in row.values.items()}
            due[row.table].setdefault(_key(row), {}).update(values)
    return due


def _key(row: Row) -> Key:
    return tuple(plain(row.values[column]) for column in KEYS[row.table])


def _schema_differences(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Tables and views that are not as the schema makes them. People may have added some of their own."""
    with duckdb.connect(":memory:") as fresh:
        fresh.execute(schema_sql())
        due = _made_by(fresh)
    found = _made_by(connection)
    for name, sql in due.items():
        if name not in found:
            yield f"{name} is missing from the tables"
        elif found[name] != sql:
            yield f"{name} is not what the schema makes: {shown(found[name])}"


def _made_by(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The statement behind each table and view."""
    return dict(
        connection.execute(
            "SELECT table_name, sql FROM duckdb_tables() WHERE NOT internal"
            " UNION ALL SELECT view_name, sql FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
    )


def _row_differences(
    connection: duckdb.DuckDBPyConnection, table: str, due: dict[Key, dict[str, Any]]
) -> Iterator[str]:
    missing = set(due)
    for key, found in _rows(connection, table):
        missing.discard(key)
        where = _named(table, key)
        if key not in due:
            yield f"{where} is in the database, but no fact makes it"
            continue
        for column, value in found.items():
            if not _equal(value, expected := due[key].get(column)):
                yield f"{where}: {column} is {_short(value)}, the journal gives {_short(expected)}"
    for key in due:
        if key in missing:
            yield f"{_named(table, key)} is not in the database"


def _rows(connection: duckdb.DuckDBPyConnection, table: str) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Key and columns of each row."""
    columns = _columns(connection, table)
    times = {name for name, kind in columns if kind == TIME}
    chosen = ", ".join(MICROS.format(name) if name in times else f'"{name}"' for name, _ in columns)
    cursor = connection.cursor()
    try:
        cursor.execute(f"SELECT {chosen} FROM {table}")
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            for row in rows:
                found = {n: _moment(v) if n in times else v for (n, _), v in zip(columns, row, strict=True)}
                yield tuple(found[column] for column in _key_columns(table)), found
    finally:
        cursor.close()


def _moment(micros: int | None) -> datetime | str | None:
    """A time of the database, which knows some that are none."""
    try:
        return None if micros is None else EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return "beyond all times"


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    """Name and type of the columns that are compared."""
    if table == JOURNAL:
        return [("seq", "BIGINT"), ("tournament_id", "VARCHAR")]
    return connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [table]
    ).fetchall()


def _key_columns(table: str) -> tuple[str, ...]:
    return ("seq",) if table == JOURNAL else KEYS[table]


def _equal(one: Any, other: Any) -> bool:
    """Equal values; no number equals no number, in lists too."""
    if isinstance(one, list) and isinstance(other, list):
        items, others = cast(list[Any], one), cast(list[Any], other)
        return len(items) == len(others) and all(map(_equal, items, others))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other


def _named(table: str, key: Key) -> str:
    columns = zip(_key_columns(table), key, strict=True)
    return f"table {table}, row {', '.join(f'{column}={shown(str(value), 80)}' for column, value in columns)}"


def _short(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return shown(value if isinstance(value, str) else repr(value), 80)
