"""Whether what lies around a journal agrees with it: the tables in its database, and the second copy beside that.

The journal itself is for the audit. Nothing is written here, not even a second copy that is missing.
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import duckdb

from tourney_ray.errors import AuditDifference, ConfigError
from tourney_ray.store import tables
from tourney_ray.store.connection import check_schema, connect, one_line
from tourney_ray.store.second_copy import SecondCopy
from tourney_ray.store.tables_check import table_differences

NAMED = 3
"""Differences that are told in full."""


def check_agreement(database: Path) -> list[str]:
    """What a reader should know though nothing contradicts the journal in `database`, which nobody else holds.

    Raises `AuditDifference` in one line when the second copy or a table says something else.
    """
    copy = SecondCopy(database.with_suffix(".jsonl"))
    try:
        with closing(connect(database, read_only=True)) as connection:
            if not check_schema(connection, database):
                return []
            entries = tables.read_entries(connection)
            compared = copy.compared(entries) if copy.path.exists() else entries
            _refuse(list(table_differences(connection, compared)))
            return _notes(connection, copy)
    except OSError as error:
        raise ConfigError(f"{copy.path} cannot be read: {error.strerror}") from error
    except duckdb.Error as error:
        raise AuditDifference(f"{database} cannot be read: {one_line(error)}") from error


def _refuse(differences: list[str]) -> None:
    if not differences:
        return
    more = f" … and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
    raise AuditDifference(
        "; ".join(islice(differences, NAMED)) + more,
        "the journal is the truth: move the database and its .wal aside, and its tables are made anew from the .jsonl",
    )


def _notes(connection: duckdb.DuckDBPyConnection, copy: SecondCopy) -> list[str]:
    ((last,),) = connection.execute("SELECT coalesce(max(seq), 0) FROM journal").fetchall()
    if not copy.path.exists():
        return [f"there is no second copy {copy.path.name} beside the database: it is made when a driver opens it"]
    if copy.seq < last:
        return [f"the second copy {copy.path.name} ends with fact {copy.seq}: a driver that opens it adds the rest"]
    return []
