"""A lost database made anew from its second copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tourney_ray.core.chain import Entry
from tourney_ray.core.replay import follow, read_fact
from tourney_ray.core.state import State
from tourney_ray.store import tables
from tourney_ray.store.connection import connect, prepare_schema
from tourney_ray.store.second_copy import read_copy
from tourney_ray.store.tables import Step

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


def replayed(entries: Iterable[Entry]) -> Iterator[Step]:
    """Each entry with its fact and the state after it; raises `AuditDifference` where one does not follow."""
    last, state = None, State()
    for entry in entries:
        fact = read_fact(last, entry)
        last, state = entry, follow(state, fact, entry)
        yield Step(entry, fact, state)
