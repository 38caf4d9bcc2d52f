"""The journal: every fact, chained by hashes, in one transaction with the tables that are made from it.

What `append` returned survives the end of the process. A journal that was altered is not opened. Only one process can
hold it, and of two writers inside one process the second is refused at its first fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from pathlib import Path

import duckdb

from tourney_ray.core.chain import Entry
from tourney_ray.core.events import Fact
from tourney_ray.core.state import State
from tourney_ray.errors import ConfigError, JournalConflict, StorageUnavailable
from tourney_ray.store import tables
from tourney_ray.store.connection import SET_ASIDE, connect, database_path, one_line, prepare_schema
from tourney_ray.store.rebuild import rebuild
from tourney_ray.store.second_copy import SecondCopy
from tourney_ray.store.steps import Step, next_steps, replayed


class Journal:
    """An open journal; make one with `Journal.open`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, copy: SecondCopy) -> None:
        self._connection = connection
        self._copy = copy
        self._last: Entry | None = None
        self._state = State()

    @classmethod
    def open(cls, path: Path) -> Journal:
        """The journal at `path`, a file or a folder for `journal.duckdb`; made when there is none, then replayed.

        Where only the second copy is left, the database is made anew from it. Raises `NotAllowed` when the file is in
        use, on a network file system, altered, of a newer schema, or at odds with its second copy; `ConfigError` when
        it is no journal.
        """
        path = database_path(path)
        copy = path.with_suffix(".jsonl")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if copy.exists() and not path.exists():
                rebuild(path, copy)
            return cls._opened(path, copy)
        except OSError as error:
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

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """For queries and snapshots, which take cursors of their own; never for writing."""
        return self._connection

    def append(self, facts: Sequence[Fact], at: datetime) -> list[Entry]:
        """Record facts at that moment, all or none; their entries, once they are on the disk.

        A moment before the last entry's counts as that one. Raises `IllegalTransition` when a fact cannot follow,
        `JournalConflict` when somebody else has written, `StorageUnavailable` when the disk fails.
        """
        steps = _Seen(next_steps(self._last, self._state, facts, at), self._state)
        if not facts:
            return []
        self._write(steps, len(facts))
        entries = steps.entries
        self._last, self._state = entries[-1], steps.state
        self._copy.append(entries if self._copy.seq == entries[0].seq - 1 else self.entries(self._copy.seq))
        return entries

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """The entries beyond that seq, in order."""
        return tables.read_entries(self._connection, after)

    def close(self) -> None:
        """Let go of the files; the journal cannot be used any more."""
        self._connection.close()

    @classmethod
    def _opened(cls, path: Path, copy: Path) -> Journal:
        with ExitStack() as undo:
            connection = undo.enter_context(closing(connect(path)))
            prepare_schema(connection, path)
            copy.touch()
            journal = cls(connection, SecondCopy(copy))
            journal._replay()
            undo.pop_all()
        return journal

    def _replay(self) -> None:
        for step in replayed(self._copy.compared(self.entries())):
            self._last, self._state = step.entry, step.state
        self._copy.append(self.entries(self._copy.seq))

    def _write(self, steps: Iterable[Step], count: int) -> None:
        first = self._last.seq + 1 if self._last else 1
        last = first + count - 1
        try:
            with tables.transaction(self._connection):
                tables.write(self._connection, steps)
        except (duckdb.ConstraintException, duckdb.TransactionException) as error:
            raise JournalConflict(*self._conflict(first, last, error)) from error
        except duckdb.Error as error:
            raise StorageUnavailable(f"facts {first} to {last} cannot be recorded: {one_line(error)}") from error

    def _conflict(self, first: int, last: int, error: duckdb.Error) -> tuple[str, str]:
        """What happened and what to do where facts, or their rows, cannot be added to what is there."""
        other = "end the other writer and open the journal again"
        message = f"facts {first} to {last} cannot be added to what is there: {one_line(error)}"
        hint = other if isinstance(error, duckdb.TransactionException) else ""
        with suppress(duckdb.Error):  # a database that cannot even be asked has said enough
            ((found,),) = self._connection.execute("SELECT coalesce(max(seq), 0) FROM journal").fetchall()
            if found != first - 1:
                message, hint = f"the journal ends with fact {found}, this writer knows {first - 1}", other
        return message, hint


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
