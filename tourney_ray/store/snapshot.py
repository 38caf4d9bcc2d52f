"""Copies of the whole database that anybody may open while the driver holds the journal."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import ExitStack, closing
from pathlib import Path

import duckdb

from tourney_ray.errors import ConfigError, NotAllowed, NotFound, StorageUnavailable, UserError
from tourney_ray.store.connection import SNAPSHOTS, check_schema, connect, one_line


def snapshot(connection: duckdb.DuckDBPyConnection, target: Path) -> Path:
    """A copy of the journal and its tables as they are at one moment, at `target`, which it replaces; `target`.

    Readers of a former copy keep what they have. Raises `StorageUnavailable` when the disk cannot take it.
    """
    name = f"snapshot_{uuid.uuid4().hex}"
    cursor = connection.cursor()
    try:
        source, file = _names(cursor)
        _check_target(target)
        copy = file.parent / SNAPSHOTS / f"{name}.duckdb"
        copy.parent.mkdir(exist_ok=True)
        try:
            _copy(cursor, source, name, copy)
            _move(copy, target)
        finally:
            copy.unlink(missing_ok=True)
    except OSError as error:
        raise StorageUnavailable(f"no snapshot at {target}: {error}") from error
    except duckdb.Error as error:
        raise StorageUnavailable(f"no snapshot at {target}: {one_line(error)}") from error
    finally:
        cursor.close()
    return target


def open_snapshot(path: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection to a snapshot; many may have one at once.

    Raises `NotFound` without one, `ConfigError` for any other file, `NotAllowed` for a newer schema.
    """
    if not path.is_file():
        raise NotFound(f"there is no snapshot at {path}", "the driver writes one on request")
    with ExitStack() as undo:
        connection = undo.enter_context(closing(connect(path, read_only=True)))
        if not check_schema(connection, path):
            raise ConfigError(f"{path} is an empty database, not a snapshot", "name another file")
        undo.pop_all()
    return connection


def _names(cursor: duckdb.DuckDBPyConnection) -> tuple[str, Path]:
    """The journal's name inside DuckDB, and its file."""
    ((name, file),) = cursor.execute(
        "SELECT database_name, path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    if file is None:
        raise StorageUnavailable("a database without a file has no snapshot")
    return name, Path(file).resolve()


def _check_target(target: Path) -> None:
    """Refuse to replace anything but an older snapshot: above all the journal, which is in use."""
    if not target.exists():
        return
    try:
        open_snapshot(target).close()
    except UserError as error:
        hint = "name a file that is new, or an older snapshot"
        raise NotAllowed(f"{target} is not replaced, it is no snapshot: {error.message}", hint) from error


def _copy(cursor: duckdb.DuckDBPyConnection, source: str, name: str, copy: Path) -> None:
    quoted = str(copy).replace("'", "''")
    cursor.execute(f"ATTACH '{quoted}' AS {name}")
    try:
        cursor.execute(f'COPY FROM DATABASE "{source}" TO {name}')
    finally:
        cursor.execute(f"DETACH {name}")


def _move(copy: Path, target: Path) -> None:
    """Put the copy in its place at once, from another file system too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{copy.name}")
    try:
        shutil.move(copy, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
