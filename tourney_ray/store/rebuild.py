"""A lost database made anew from its second copy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import duckdb

from tourney_ray.errors import AuditDifference
from tourney_ray.store import tables
from tourney_ray.store.connection import connect, one_line, prepare_schema
from tourney_ray.store.second_copy import read_copy
from tourney_ray.store.steps import Step, replayed

BATCH = 1000


def rebuild(path: Path, copy: Path) -> None:
    """Write the database at `path` from the second copy; it is there whole or not at all.

    Raises `AuditDifference` when the copy was altered, or says what no table can hold.
    """
    unfinished = path.with_suffix(".rebuilding")
    unfinished.unlink(missing_ok=True)
    unfinished.with_name(unfinished.name + ".wal").unlink(missing_ok=True)
    connection = connect(unfinished)
    try:
        prepare_schema(connection, unfinished)
        steps = replayed(read_copy(copy))
        while batch := list(islice(steps, BATCH)):
            _write(connection, batch, copy)
    finally:
        connection.close()
    unfinished.replace(path)


def _write(connection: duckdb.DuckDBPyConnection, batch: Sequence[Step], copy: Path) -> None:
    try:
        with tables.transaction(connection):
            tables.write(connection, batch)
    except (duckdb.DataError, duckdb.ProgrammingError) as error:
        first, last = batch[0].entry.seq, batch[-1].entry.seq
        raise AuditDifference(f"facts {first} to {last} of {copy} fit into no table: {one_line(error)}") from error
