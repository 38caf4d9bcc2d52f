"""A lost database made anew from its second copy."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tourney_ray.store import tables
from tourney_ray.store.connection import connect, prepare_schema
from tourney_ray.store.second_copy import read_copy
from tourney_ray.store.steps import replayed

BATCH = 1000


def rebuild(path: Path, copy: Path) -> None:
    """Write the database at `path` from the second copy; it is there whole or not at all.

    Raises `AuditDifference` when the copy was altered.
    """
    unfinished = path.with_suffix(".rebuilding")
    unfinished.unlink(missing_ok=True)
    unfinished.with_name(unfinished.name + ".wal").unlink(missing_ok=True)
    connection = connect(unfinished)
    try:
        prepare_schema(connection, unfinished)
        steps = replayed(read_copy(copy))
        while batch := list(islice(steps, BATCH)):
            with tables.transaction(connection):
                tables.write(connection, batch)
    finally:
        connection.close()
    unfinished.replace(path)
