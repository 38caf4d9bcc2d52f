"""Writing rows and entries: one statement per table and set of columns, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from threading import Lock
from typing import Any

import duckdb
from pydantic import ValidationError

from tourney_ray.core.chain import Entry
from tourney_ray.core.replay import spell
from tourney_ray.errors import AuditDifference
from tourney_ray.store.projection import project
from tourney_ray.store.row import Row
from tourney_ray.store.steps import Step

KEYS: dict[str, tuple[str, ...]] = {
    "tournaments": ("tournament_id",),
    "entrants": ("tournament_id", "hotkey"),
    "rounds": ("round_id",),
    "matches": ("match_id",),
    "tasks": ("task_id",),
    "images": ("tournament_id", "hotkey"),
    "attempts": ("attempt_id",),
    "evaluations": ("task_id", "hotkey", "number"),
    "rankings": ("task_id", "hotkey"),
    "verdicts": ("match_id", "hotkey"),
    "standings": ("tournament_id", "hotkey"),
    "charges": ("tournament_id", "hotkey"),
    "transfers": ("transfer_id",),
    "balances": ("coldkey",),
    "nodes": ("node",),
    "acts": ("kind", "subject", "acted_at"),
}
"""Primary key of every projected table."""

WRITING = Lock()
"""Held while somebody in this process writes."""

ROWS_PER_STATEMENT = 500
FEW = 10
"""Rows that are written one by one where they may be there already."""
ENTRIES_PER_FETCH = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LARGEST = {"INTEGER": 2**31 - 1, "INTEGER[]": 2**31 - 1, "BIGINT": 2**63 - 1}
"""The largest number of a column of that type."""

Bounds = Mapping[tuple[str, str], int]
"""The largest number that a column can hold, by table and column."""

ENTRY_COLUMNS = ("seq", "recorded_at", "kind", "tournament_id", "body", "previous", "hash")


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    """All statements inside take effect together, or none of them does."""
    connection.execute("BEGIN TRANSACTION")
    with ExitStack() as undo:
        undo.callback(_roll_back, connection)
        yield
        connection.execute("COMMIT")
        undo.pop_all()


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.TransactionException):  # a commit that failed has rolled back already
        connection.execute("ROLLBACK")


@dataclass(frozen=True, slots=True)
class Block:
    """Entries and the rows that they make, which are written together."""

    entries: list[list[Any]]
    """The journal's columns of each."""
    rows: list[list[Row]]
    """What each of them writes into the tables for people."""

    @property
    def first(self) -> int:
        """The first seq."""
        return self.entries[0][0]

    @property
    def last(self) -> int:
        """The last seq."""
        return self.entries[-1][0]

    def after(self, seq: int) -> Block:
        """Those of its entries that come later."""
        known = sum(entry[0] <= seq for entry in self.entries)
        return Block(self.entries[known:], self.rows[known:])


def bounds(connection: duckdb.DuckDBPyConnection) -> Bounds:
    """How large numbers may be in its tables."""
    columns = connection.execute("SELECT table_name, column_name, data_type FROM duckdb_columns()").fetchall()
    return {(table, column): LARGEST[kind] for table, column, kind in columns if kind in LARGEST}


def block(steps: Iterable[Step], bounds: Bounds) -> Block:
    """What those steps add to the database; raises `OverflowError` for a number that no column can hold."""
    entries, rows = list[list[Any]](), list[list[Row]]()
    for step in steps:
        entries.append(_columns(step))
        rows.append(list(project(step.fact, step.state, step.entry.at)))
        for row in rows[-1]:
            _check(row, bounds)
    return Block(entries, rows)


def _check(row: Row, bounds: Bounds) -> None:
    for column, value in row.values.items():
        if value and (most := bounds.get((row.table, column))):
            for number in value if isinstance(value, tuple) else (value,):
                if not -most <= number <= most:
                    raise OverflowError(f"{column} of {row.table} is beyond {most}")


def write(connection: duckdb.DuckDBPyConnection, blocks: Sequence[Block]) -> None:
    """Insert blocks in one transaction; raises `duckdb.Error`, above all where an entry is there already."""
    with transaction(connection):
        _insert(connection, "journal", ENTRY_COLUMNS, [entry for block in blocks for entry in block.entries], "")
        _upsert(connection, [row for block in blocks for rows in block.rows for row in rows])


def write_anew(connection: duckdb.DuckDBPyConnection, blocks: Sequence[Block]) -> None:
    """The same, but for entries that are there by now: another journal of this process may have written them.

    One writes at a time, since of two that meet in the middle DuckDB refuses one.
    """
    with WRITING:
        try:
            write(connection, blocks)
        except (duckdb.ConstraintException, duckdb.TransactionException):
            last = last_seq(connection)
            if last < blocks[0].first:
                raise
            write(connection, [block.after(last) for block in blocks])


def last_seq(connection: duckdb.DuckDBPyConnection) -> int:
    """The number of the last entry, 0 without any."""
    ((last,),) = connection.execute("SELECT coalesce(max(seq), 0) FROM journal").fetchall()
    return last


def read_entries(connection: duckdb.DuckDBPyConnection, after: int = 0) -> Iterator[Entry]:
    """The journal's entries beyond that seq, in order, streamed on a cursor of their own.

    Raises `AuditDifference` for a row that is no entry.
    """
    cursor = connection.cursor()
    try:
        cursor.execute(
            "SELECT seq, epoch_us(recorded_at), kind, body, previous, hash FROM journal WHERE seq > ? ORDER BY seq",
            [after],
        )
        while rows := cursor.fetchmany(ENTRIES_PER_FETCH):
            yield from map(_entry, rows)
    finally:
        cursor.close()


def _entry(row: Sequence[Any]) -> Entry:
    seq, micros, kind, body, previous, digest = row
    try:
        at = EPOCH + timedelta(microseconds=micros)
        return Entry(seq=seq, at=at, kind=kind, body=body, previous=previous, hash=digest)
    except ValidationError as error:
        raise AuditDifference(f"row {seq} of the journal is no entry: {spell(error)}") from error
    except (TypeError, OverflowError) as error:
        raise AuditDifference(f"row {seq} of the journal has an impossible time: {micros}") from error


def _columns(step: Step) -> list[Any]:
    entry = step.entry
    tournament_id = getattr(step.fact, "tournament_id", None)
    return [entry.seq, entry.at, entry.kind, tournament_id, entry.body, entry.previous, entry.hash]


def _upsert(connection: duckdb.DuckDBPyConnection, rows: Iterable[Row]) -> None:
    """Write rows, whether they are there or not.

    To plan an insertion that may turn into an update takes DuckDB ten times as long as either, so of a few rows each is
    updated, and those are inserted that were not there.
    """
    groups: dict[tuple[str, tuple[str, ...], bool], list[list[Any]]] = {}
    for row in _merged(rows):
        values = [plain(value) for value in row.values.values()]
        groups.setdefault((row.table, tuple(row.values), row.new), []).append(values)
    for (table, columns, new), values in groups.items():
        if new:
            _insert(connection, table, columns, values, "")
        elif len(values) > FEW or len(columns) == len(KEYS[table]):
            _insert(connection, table, columns, values, _on_conflict(table, columns))
        elif missing := [each for each in values if not _update(connection, table, columns, each)]:
            _insert(connection, table, columns, missing, "")


def _update(connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], values: Sequence[Any]) -> bool:
    """Write one row where it is there already; False where it is not."""
    given, keys = dict(zip(columns, values, strict=True)), KEYS[table]
    settled = [column for column in columns if column not in keys]
    sets, where = (joint.join(f'"{c}" = ?' for c in names) for joint, names in ((", ", settled), (" AND ", keys)))
    parameters = [given[column] for column in (*settled, *keys)]
    ((count,),) = connection.execute(f"UPDATE {table} SET {sets} WHERE {where}", parameters).fetchall()
    return bool(count)


def _merged(rows: Iterable[Row]) -> list[Row]:
    """One row for each key, so that no key is written twice in one transaction."""
    merged: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = (row.table, *(str(row.values[column]) for column in KEYS[row.table]))
        before = merged.get(key)
        merged[key] = Row(row.table, {**before.values, **row.values}, new=before.new) if before else row
    return list(merged.values())


def _on_conflict(table: str, columns: Sequence[str]) -> str:
    settled = [f'"{c}" = excluded."{c}"' for c in columns if c not in KEYS[table]]
    return f" ON CONFLICT DO UPDATE SET {', '.join(settled)}" if settled else " ON CONFLICT DO NOTHING"


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], rows: list[list[Any]], ending: str
) -> None:
    names = ", ".join(f'"{column}"' for column in columns)
    marks = f"({', '.join('?' * len(columns))})"
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        chunk = rows[start : start + ROWS_PER_STATEMENT]
        places = ", ".join([marks] * len(chunk))
        parameters = [value for row in chunk for value in row]
        connection.execute(f"INSERT INTO {table} ({names}) VALUES {places}{ending}", parameters)


def plain(value: Any) -> Any:
    """A projected value as DuckDB takes it, and gives it back."""
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
