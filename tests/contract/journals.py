"""Disks that outlive the journals opened on them, the real one and the one in memory, each able to fail."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Protocol
from unittest.mock import patch

from pydantic import TypeAdapter

from tourney_ray.core.chain import Entry
from tourney_ray.core.events import Fact
from tourney_ray.core.state import State
from tourney_ray.errors import StorageUnavailable
from tourney_ray.store import lines
from tourney_ray.store.journal import Journal
from tourney_ray.store.memory import MemoryJournal, MemoryStore


class AnyJournal(Protocol):
    """What both journals promise."""

    @property
    def state(self) -> State: ...

    @property
    def last(self) -> Entry | None: ...

    def append(self, facts: Sequence[Fact], at: datetime) -> list[Entry]: ...

    def entries(self, after: int = 0) -> Iterator[Entry]: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """Where a journal lies."""

    def open(self) -> AnyJournal:
        """One more handle on the journal."""
        ...

    def copy(self) -> bytes:
        """The journal's lines."""
        ...

    def failing(self) -> AbstractContextManager[None]:
        """While inside, appends fail."""
        ...


STATE = TypeAdapter(State)


def told(state: State) -> tuple[bytes, list[str]]:
    """The state in words that two equal states have in common, in which NaN equals NaN."""
    return STATE.dump_json(replace(state, transfers=frozenset())), sorted(state.transfers)


class RealDisk:
    """A folder with lines and the database that is made from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> Journal:
        return Journal.open(self.folder)

    def copy(self) -> bytes:
        return (self.folder / "journal.jsonl").read_bytes()

    @contextmanager
    def failing(self) -> Generator[None]:
        honest = lines._to_disk

        def to_disk(file: FileIO, text: bytes) -> None:
            honest(file, text[: len(text) * 2 // 3])
            raise OSError("no space left on device")

        with patch.object(lines, "_to_disk", to_disk):
            yield


class MemoryDisk:
    """A store in memory."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def open(self) -> MemoryJournal:
        return MemoryJournal.open(self.store)

    def copy(self) -> bytes:
        return b"".join(self.store.lines)

    @contextmanager
    def failing(self) -> Generator[None]:
        with patch.object(self.store, "before_append", _full):
            yield


def _full(entries: Sequence[Entry]) -> None:
    raise StorageUnavailable(f"no space for {len(entries)} facts")
