"""The database kept up with what is recorded: off the path of whoever records, soon, in order.

What has come in meanwhile is written in one transaction by a thread, so that the database says at every moment what the
journal said at an earlier one. Whoever reads it waits until that is now, and so does the end of the process.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import duckdb

from tourney_ray.errors import StorageUnavailable
from tourney_ray.store import tables
from tourney_ray.store.connection import one_line
from tourney_ray.store.tables import Block

LINGER_S = 0.25
"""How long facts may wait for more to be written with them, while nobody reads."""

MANY = 500
"""Entries that do not wait for more."""


class Projector:
    """Writes blocks into a database, through a cursor of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection.cursor()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="projector")
        self._changed = threading.Condition()
        self._pending: deque[Block] = deque()
        self._entries = 0
        """Of those blocks."""
        self._writing = False
        """Whether the thread is at work, and looks for more before it ends."""
        self._written = 0
        """Last entry that the database has of those that were put."""
        self._readers = 0
        """Who waits for some of it to be written."""
        self._closed = False
        self._failure = ""

    def check(self) -> None:
        """Raise `StorageUnavailable` when no more blocks can be taken: it is closed, or one could not be written."""
        if self._failure or self._closed:
            raise StorageUnavailable(self._failure or "it is closed")

    def put(self, block: Block) -> None:
        """Take a block that follows the last one; raises nothing."""
        with self._changed:
            self._pending.append(block)
            self._entries += len(block.entries)
            if self._in_a_hurry():
                self._changed.notify_all()
            if not self._failure:
                self._begin()

    def catch_up(self) -> None:
        """Return once all blocks so far are in the database; raises `StorageUnavailable` when they cannot be.

        What could not be written before is tried again.
        """
        with self._changed:
            due = self._pending[-1].last if self._pending else self._written
            if self._pending:
                self._failure = ""
                self._begin()
            self._readers += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._written >= due or self._failure)
            self._readers -= 1
            if self._written < due:
                raise StorageUnavailable(self._failure)

    def close(self) -> None:
        """Write what is pending, as far as that is possible, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.shutdown()
        self._connection.close()

    def _begin(self) -> None:
        """Have the thread at work; where it cannot be, that is the failure."""
        if not self._writing:
            try:
                self._thread.submit(self._run)
                self._writing = True
            except RuntimeError as error:
                self._fail(self._pending[0].first, self._pending[-1].last, str(error))

    def _run(self) -> None:
        while blocks := self._next():
            self._write(blocks)

    def _next(self) -> list[Block]:
        """What is to be written together; nothing ends the work."""
        with self._changed:
            if self._pending:
                self._changed.wait_for(self._in_a_hurry, LINGER_S)
            blocks = list(self._pending)
            self._writing = bool(blocks)
            return blocks

    def _in_a_hurry(self) -> bool:
        return self._closed or self._readers > 0 or self._entries >= MANY

    def _write(self, blocks: list[Block]) -> None:
        try:
            tables.write_anew(self._connection, blocks)
        finally:
            error = sys.exception()
            with self._changed:
                if error is None:
                    self._forget(blocks)
                else:
                    why = one_line(error) if isinstance(error, duckdb.Error) else repr(error)
                    self._fail(blocks[0].first, blocks[-1].last, why)
                    self._writing = False
                self._changed.notify_all()

    def _forget(self, blocks: list[Block]) -> None:
        self._written = blocks[-1].last
        for block in blocks:
            self._pending.popleft()
            self._entries -= len(block.entries)

    def _fail(self, first: int, last: int, why: str) -> None:
        self._failure = f"facts {first} to {last} are recorded, but the tables did not take them: {why}"
