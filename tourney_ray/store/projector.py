"""The database kept up with what is recorded: off the path of whoever records, soon, in order.

One thread writes what has come in meanwhile in one transaction, so that the database says at every moment what the
journal said at an earlier one. Whoever reads it waits until that is now.
"""

from __future__ import annotations

import threading
from collections import deque

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
        self._changed = threading.Condition()
        self._pending: deque[Block] = deque()
        self._entries = 0
        """Of the blocks that are pending."""
        self._readers = 0
        """Who waits for all of it to be written."""
        self._closed = False
        self._failure = ""
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raise `StorageUnavailable` when no more blocks can be taken: it is closed, or one could not be written."""
        if self._failure or self._closed:
            raise StorageUnavailable(self._failure or "it is closed")

    def put(self, block: Block) -> None:
        """Take a block that follows the last one."""
        with self._changed:
            self._pending.append(block)
            self._entries += len(block.entries)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="projector", daemon=True)
            self._thread.start()

    def catch_up(self) -> None:
        """Return once all blocks are in the database; raises `StorageUnavailable` when they cannot be."""
        with self._changed:
            self._readers += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._pending or self._failure)
            self._readers -= 1
        if self._pending:
            raise StorageUnavailable(self._failure)

    def close(self) -> None:
        """Write what is pending, as far as that is possible, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while blocks := self._next():
            try:
                tables.write_anew(self._connection, blocks)
            except duckdb.Error as error:
                self._fail(blocks, error)
                return
            with self._changed:
                for block in blocks:
                    self._pending.popleft()
                    self._entries -= len(block.entries)
                self._changed.notify_all()

    def _next(self) -> list[Block]:
        """What is to be written together, none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            self._changed.wait_for(lambda: self._closed or self._readers or self._entries >= MANY, LINGER_S)
            return list(self._pending)

    def _fail(self, blocks: list[Block], error: duckdb.Error) -> None:
        with self._changed:
            first, last = blocks[0].first, blocks[-1].last
            self._failure = f"facts {first} to {last} are recorded, but the tables did not take them: {one_line(error)}"
            self._changed.notify_all()
