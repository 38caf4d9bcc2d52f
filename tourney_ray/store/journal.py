"""The journal: every fact, chained by hashes, as a line of a file, and the database that is made from those lines.

What `append` returned survives the end of the process: it is in the lines. The database follows within moments, and
says all that was recorded to whoever asks through `database`. A journal that was altered is not opened. Only one
process can hold it, and of two writers inside one process the second is refused at its first fact.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias

import duckdb

from tourney_ray.core.chain import Entry
from tourney_ray.core.events import Fact
from tourney_ray.core.state import State
from tourney_ray.errors import AuditDifference, ConfigError, StorageUnavailable
from tourney_ray.store import tables
from tourney_ray.store.connection import SET_ASIDE, connect, database_path, one_line, prepare_schema
from tourney_ray.store.lines import Lines
from tourney_ray.store.projector import Projector
from tourney_ray.store.steps import Step, next_steps, replayed

Database: TypeAlias = duckdb.DuckDBPyConnection
"""What questions are asked of."""

OF_THE_DISK = {errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT}
"""Errors that may pass, and are nobody's choice of a folder."""

CATCH_UP = 1000
"""Facts in one transaction where a database is made from its lines."""


class Journal:
    """An open journal; make one with `Journal.open`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, lines: Lines) -> None:
        self._connection = connection
        self._bounds = tables.bounds(connection)
        self._lines = lines
        self._projector = Projector(connection)
        self._last: Entry | None = None
        self._state = State()

    @classmethod
    def open(cls, path: Path) -> Journal:
        """The journal at `path`, a file or a folder for `journal.duckdb`; made when there is none, then replayed.

        A database that is behind its lines, or gone, is caught up; lines that are gone are made anew from it. Raises
        `NotAllowed` when the file is in use, on a network file system, altered, of a newer schema, or at odds with its
        lines; `ConfigError` when it is no journal, `StorageUnavailable` when the disk fails.
        """
        path = database_path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return cls._opened(path)
        except OSError as error:
            if error.errno in OF_THE_DISK:
                raise StorageUnavailable(f"the journal {path} cannot be opened: {error}") from error
            raise ConfigError(f"the journal {path} cannot be opened: {error}", "name a folder of your own") from error
        except duckdb.Error as error:
            raise ConfigError(f"{path} is damaged: {one_line(error)}", SET_ASIDE) from error

    @property
    def last(self) -> Entry | None:
        """The last entry; None while there is none."""
        return self._last

    @property
    def state(self) -> State:
        """The state after the last entry."""
        return self._state

    def database(self) -> Database:
        """The database, once all that was recorded is in it; for queries, which take cursors of their own.

        Never for writing. Waits for the tables, so not for an event loop; raises `StorageUnavailable` where they
        cannot follow.
        """
        self._projector.catch_up()
        return self._connection

    def append(self, facts: Sequence[Fact], at: datetime) -> list[Entry]:
        """Record facts at that moment, all or none; their entries, once they are on the disk.

        A moment before the last entry's counts as that one. Raises `IllegalTransition` when a fact cannot follow,
        `JournalConflict` when somebody else has written, `StorageUnavailable` when the disk fails, or the tables could
        not take what was recorded before.
        """
        steps = _Seen(next_steps(self._last, self._state, facts, at), self._state)
        if not facts:
            return []
        try:
            self._projector.check()
            block = tables.block(steps, self._bounds)
        except (StorageUnavailable, OverflowError) as error:
            what = f"facts {self._state.seq + 1} to {self._state.seq + len(facts)}"
            raise StorageUnavailable(f"{what} cannot be recorded: {error}") from error
        self._lines.append(steps.entries)
        self._last, self._state = steps.entries[-1], steps.state
        self._projector.put(block)
        return steps.entries

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """The entries beyond that seq, in order."""
        return tables.read_entries(self.database(), after)

    def close(self) -> None:
        """Let go of the files; the journal cannot be used any more. Waits for the tables; nobody may read them then."""
        with closing(self._connection):
            self._projector.close()

    @classmethod
    def _opened(cls, path: Path) -> Journal:
        with ExitStack() as undo:
            connection = undo.enter_context(closing(connect(path)))
            prepare_schema(connection, path)
            journal = cls(connection, Lines.at(path.with_suffix(".jsonl")))
            journal._replay()
            undo.pop_all()
        return journal

    def _replay(self) -> None:
        """Compare the database and the lines, and have either say what only the other one says."""
        rows = self._lines.compared(tables.read_entries(self._connection))
        steps = self._taken_in(replayed(chain(rows, self._lines.beyond())))
        missing = (step for step in steps if step.entry.seq > self._lines.compared_seq)
        while batch := list(islice(missing, CATCH_UP)):
            self._catch_up(batch)
        self._lines.complete(list(tables.read_entries(self._connection, self._lines.seq)))

    def _taken_in(self, steps: Iterable[Step]) -> Iterator[Step]:
        for step in steps:
            self._last, self._state = step.entry, step.state
            yield step

    def _catch_up(self, batch: Sequence[Step]) -> None:
        what = f"facts {batch[0].entry.seq} to {batch[-1].entry.seq} of {self._lines.path}"
        try:
            tables.write_anew(self._connection, [tables.block(batch, self._bounds)])
        except (duckdb.OperationalError, duckdb.FatalException, duckdb.InternalException) as error:
            raise StorageUnavailable(f"the tables do not take {what}: {one_line(error)}") from error
        except (duckdb.Error, OverflowError) as error:
            why = one_line(error) if isinstance(error, duckdb.Error) else str(error)
            raise AuditDifference(f"{what} do not fit into the tables: {why}", SET_ASIDE) from error


class _Seen:
    """Steps that are read once; of what was read its entries are kept, and the last state."""

    def __init__(self, steps: Iterable[Step], state: State) -> None:
        self._steps = steps
        self.entries: list[Entry] = []
        self.state = state

    def __iter__(self) -> Iterator[Step]:
        for step in self._steps:
            self.entries.append(step.entry)
            self.state = step.state
            yield step
