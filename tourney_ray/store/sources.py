"""Reading somebody's journal from wherever it is: a folder, a database, or its lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb

from tourney_ray.core.chain import Entry
from tourney_ray.errors import AuditDifference, ConfigError, NotAllowed, NotFound
from tourney_ray.store import tables
from tourney_ray.store.connection import check_schema, connect, database_path, one_line
from tourney_ray.store.lines import read_lines


class Source(NamedTuple):
    """A journal's entries, read as they are asked for, and what its reader should know about where they come from."""

    entries: Iterator[Entry]
    note: str
    """Empty when there is nothing to say."""
    growing: bool
    """Whether a driver is at work on it, so that its end may be unfinished."""
    database: Path | None = None
    """The database, held by nobody, that the entries are read from; None when its lines are read."""


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries at `path`: see `open_source`."""
    return open_source(path).entries


def open_source(path: Path) -> Source:
    """The journal at `path`: a folder, a database or a `.jsonl`; of a folder, the database if it is free.

    What a database that is behind its lines lacks is read from them, as are all entries while a driver holds it,
    without an unfinished end. Raises `NotFound`, `NotAllowed` or `ConfigError` at once, and `AuditDifference` at the
    first entry that cannot be read; whether entries follow from each other is for the audit.
    """
    if not path.exists():
        raise NotFound(f"there is no journal at {path}", "name its folder, its .duckdb or its .jsonl")
    if path.suffix == ".jsonl":
        return Source(_lines(path), "", False)
    database = database_path(path)
    lines = database.with_suffix(".jsonl")
    if not database.exists():
        if not lines.exists():
            raise NotFound(f"{path} has neither {database.name} nor {lines.name}", "name the folder of a journal")
        return Source(_lines(lines), f"{database.name} is not there: {lines.name} was read", False)
    try:
        connection = connect(database, read_only=True)
    except NotAllowed as refusal:
        if not lines.exists():
            raise
        return Source(_lines(lines, growing=True), f"{refusal.message}: {lines.name} was read", True)
    return Source(_all(connection, database, lines), "", False, database)


def _all(connection: duckdb.DuckDBPyConnection, database: Path, lines: Path) -> Iterator[Entry]:
    """What the database has, and what only its lines have."""
    last = 0
    for entry in _rows(connection, database):
        last = entry.seq
        yield entry
    if lines.exists():
        yield from _lines(lines, after=last, growing=True)


def _lines(path: Path, *, after: int = 0, growing: bool = False) -> Iterator[Entry]:
    try:
        yield from read_lines(path, after=after, growing=growing)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _rows(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator[Entry]:
    try:
        if check_schema(connection, path):
            yield from tables.read_entries(connection)
    except duckdb.Error as error:
        raise AuditDifference(f"{path} cannot be read: {one_line(error)}") from error
    finally:
        connection.close()
