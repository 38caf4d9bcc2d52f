"""Reading somebody's journal from wherever it is: a folder, a database, or a second copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb

from tourney_ray.core.chain import Entry
from tourney_ray.errors import AuditDifference, ConfigError, NotAllowed, NotFound
from tourney_ray.store import tables
from tourney_ray.store.connection import check_schema, connect, database_path, one_line
from tourney_ray.store.second_copy import read_copy


class Source(NamedTuple):
    """A journal's entries, read as they are asked for, and what its reader should know about where they come from."""

    entries: Iterator[Entry]
    note: str
    """Empty when there is nothing to say."""
    growing: bool
    """Whether a driver is at work on it, so that its end may be unfinished."""
    database: Path | None = None
    """The database, held by nobody, that the entries are read from; None when a second copy is read."""


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries at `path`: see `open_source`."""
    return open_source(path).entries


def open_source(path: Path) -> Source:
    """The journal at `path`: a folder, a database or a `.jsonl`; of a folder, the database if it is free.

    While a driver holds the database its second copy is read, without an unfinished last line. Raises `NotFound`,
    `NotAllowed` or `ConfigError` at once, and `AuditDifference` at the first entry that cannot be read; whether entries
    follow from each other is for the audit.
    """
    if not path.exists():
        raise NotFound(f"there is no journal at {path}", "name its folder, its .duckdb or its .jsonl")
    if path.suffix == ".jsonl":
        return Source(_lines(path), "", False)
    database = database_path(path)
    copy = database.with_suffix(".jsonl")
    if not database.exists():
        if not copy.exists():
            raise NotFound(f"{path} has neither {database.name} nor {copy.name}", "name the folder of a journal")
        return Source(_lines(copy), f"{database.name} is not there: its second copy {copy.name} was read", False)
    try:
        connection = connect(database, read_only=True)
    except NotAllowed as refusal:
        if not copy.exists():
            raise
        return Source(_lines(copy, growing=True), f"{refusal.message}: its second copy {copy.name} was read", True)
    return Source(_rows(connection, database), "", False, database)


def _lines(path: Path, *, growing: bool = False) -> Iterator[Entry]:
    try:
        yield from read_copy(path, growing=growing)
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
