"""Whether what lies around a journal agrees with it: the tables in its database, and the lines beside that.

The journal itself is for the audit. Nothing is written here, not even lines that are missing.
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import duckdb

from tourney_ray.errors import AuditDifference, ConfigError
from tourney_ray.store import tables
from tourney_ray.store.connection import check_schema, connect, one_line
from tourney_ray.store.lines import Lines
from tourney_ray.store.tables_check import table_differences

NAMED = 3
"""Differences that are told in full."""


def check_agreement(database: Path) -> list[str]:
    """What a reader should know though nothing contradicts the journal in `database`, which nobody else holds.

    Raises `AuditDifference` in one line when the lines or a table say something else.
    """
    lines = Lines(database.with_suffix(".jsonl"))
    try:
        with closing(connect(database, read_only=True)) as connection:
            if not check_schema(connection, database):
                return []
            entries = tables.read_entries(connection)
            compared = lines.compared(entries) if lines.path.exists() else entries
            _refuse(list(table_differences(connection, compared)))
            return _notes(connection, lines)
    except OSError as error:
        raise ConfigError(f"{lines.path} cannot be read: {error.strerror}") from error
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


def _notes(connection: duckdb.DuckDBPyConnection, lines: Lines) -> list[str]:
    last, name = tables.last_seq(connection), lines.path.name
    if not lines.path.exists():
        return [f"there is no {name} beside the database: it is made when a driver opens it"]
    if lines.seq < last:
        return [f"{name} ends with fact {lines.seq}: a driver that opens it adds the rest"]
    if beyond := sum(1 for _ in lines.beyond()):
        return [f"the tables end with fact {last}, {beyond} before {name}: a driver that opens it adds the rest"]
    return []
