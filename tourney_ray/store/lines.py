"""The lines of the journal: one of JSON per entry, in a file that is only ever appended to.

What is on the disk there is recorded; the database beside it is made from it, and may be behind. Facts that were
recorded together count together: `"more":true` on all their lines but the last says so, and what a crash left of only
some of them was never recorded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from io import FileIO
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from tourney_ray.core.chain import Entry
from tourney_ray.core.quoting import shown
from tourney_ray.core.replay import spell
from tourney_ray.errors import AuditDifference, JournalConflict, StorageUnavailable
from tourney_ray.store.syncing import sync

MORE = b',"more":true}\n'
"""How the line of an entry ends that was recorded together with the next one."""


class Lines:
    """The file, with how much of it is known to be whole. `compared` and then `beyond` read it, once, to its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seq = 0
        """Last entry that is known to be in the file."""
        self.compared_seq = 0
        """Last entry that was compared."""
        self._size = 0
        """Bytes up to the end of that entry."""
        self._found = 0
        """Bytes of the whole file, when it was read or written last."""

    @classmethod
    def at(cls, path: Path) -> Lines:
        """The file at `path`, made when there is none; what it says is on the disk from then on."""
        path.touch()
        for each in (path, path.parent):
            sync(each)
        lines = cls(path)
        lines._found = path.stat().st_size
        return lines

    def compared(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The same entries, each compared with its line; a missing end is no difference, nor is a line cut short there.

        Raises `AuditDifference` at the first difference.
        """
        with self.path.open("rb") as lines:
            for entry in entries:
                self.compared_seq = entry.seq
                line = lines.readline()
                if line == entry_line(entry, more=line.endswith(MORE)):
                    self.seq, self._size = entry.seq, self._size + len(line)
                elif not any(entry_line(entry, more=more).startswith(line) for more in (False, True)):
                    raise self._refusal(f"differs from the database at fact {entry.seq} ({shown(entry.kind, 40)})")
                yield entry

    def beyond(self) -> Iterator[Entry]:
        """The entries after those that were compared, but for what a crash left of some that belong together.

        Raises `AuditDifference` for a line that is not exactly as an entry is written.
        """
        batches = _batches(self.path, self.seq, growing=True)
        while batch := self._next(batches):
            yield from batch

    def _next(self, batches: Iterator[tuple[list[Entry], int]]) -> list[Entry]:
        try:
            batch, size = next(batches, ([], 0))
        except AuditDifference as damage:
            hint = f"if only its end is damaged, as a loss of power may leave it, cut it off after line {self.seq}"
            raise AuditDifference(damage.message, hint) from damage
        self.seq, self._size = self.seq + len(batch), self._size + size
        return batch

    def append(self, entries: Sequence[Entry]) -> None:
        """Have entries on the disk, all or none, after those that are there.

        Raises `JournalConflict` when somebody else has written, `StorageUnavailable` when the disk fails.
        """
        self._add(batch_lines(entries))

    def complete(self, entries: Sequence[Entry]) -> None:
        """Have entries on the disk that were recorded already and have no lines, and nothing after them.

        Raises what `append` raises.
        """
        if entries or self._found > self._size:
            self._add([entry_line(entry) for entry in entries])

    def _add(self, lines: list[bytes]) -> None:
        text, last = b"".join(lines), self.seq + len(lines)
        try:
            with self.path.open("r+b", buffering=0) as file:
                self._check(file)
                self._write(file, text)
        except OSError as error:
            what = f"facts {self.seq + 1} to {last}"
            raise StorageUnavailable(f"{what} cannot be recorded: {self.path}: {error}") from error
        self.seq, self._size = last, self._size + len(text)

    def _check(self, file: FileIO) -> None:
        found = os.fstat(file.fileno()).st_size
        if found < self._found:
            raise OSError("somebody cut it while it was in use")
        if found > self._found:
            raise JournalConflict(
                f"the journal ends with fact {_last_seq(file)}, this writer knows {self.seq}",
                "end the other writer and open the journal again",
            )

    def _write(self, file: FileIO, text: bytes) -> None:
        """What a crash left behind is overwritten; what a write that fails leaves behind is taken away again."""
        try:
            if self._found > self._size:
                _cut(file, self._size)
            file.seek(self._size)
            _to_disk(file, text)
        except OSError:
            with suppress(OSError):
                _cut(file, self._size)
            raise
        finally:
            self._found = os.fstat(file.fileno()).st_size

    def _refusal(self, what: str) -> AuditDifference:
        return AuditDifference(
            f"{self.path} {what}",
            "see which of the two is right with `tourney audit FILE` and move the other one aside: it is made anew",
        )


def entry_line(entry: Entry, *, more: bool = False) -> bytes:
    """The entry as it stands in the file: one line of JSON in UTF-8, its newline included.

    `more` of an entry that was recorded together with the next one.
    """
    line = entry.model_dump_json().encode()
    return line[:-1] + MORE if more else line + b"\n"


def batch_lines(entries: Sequence[Entry]) -> list[bytes]:
    """The lines of entries that are recorded together."""
    return [entry_line(entry, more=entry is not entries[-1]) for entry in entries]


def read_lines(path: Path, *, after: int = 0, growing: bool = False) -> Iterator[Entry]:
    """The entries of a file, in order, without those of its first `after` lines.

    Raises `AuditDifference` for a line that is not exactly as an entry is written, and for the end that is missing
    unless the file grows: then what is there of it is left out.
    """
    for batch, _ in _batches(path, after, growing=growing):
        yield from batch


def read_line(line: bytes, place: str) -> tuple[Entry, bool]:
    """The entry of a line that stands at `place`, and whether more belong to it.

    Raises `AuditDifference` unless it is exactly as it was written.
    """
    if not line.endswith(b"\n"):
        raise AuditDifference(f"{place} is cut short")
    more = line.endswith(MORE)
    try:
        entry = Entry.model_validate_json(line[: -len(MORE)] + b"}" if more else line)
    except ValidationError as error:
        raise AuditDifference(f"{place} is no entry: {spell(error)}") from error
    if entry_line(entry, more=more) != line:
        raise AuditDifference(f"{place} is not as it was written: it was altered")
    return entry, more


def _batches(path: Path, after: int, *, growing: bool) -> Iterator[tuple[list[Entry], int]]:
    """Entries as they were recorded together, and their bytes, without the first `after` lines."""
    batch, size, number = list[Entry](), 0, after
    with path.open("rb") as lines:
        for number, line in enumerate(islice(lines, after, None), start=after + 1):
            if growing and not line.endswith(b"\n"):
                return
            entry, more = read_line(line, f"line {number} of {path}")
            batch.append(entry)
            size += len(line)
            if not more:
                yield batch, size
                batch, size = [], 0
    if batch and not growing:
        raise AuditDifference(f"line {number} of {path} is the last one, but more belong to it")


def _last_seq(file: FileIO) -> int:
    """The number of the last whole line, 0 without any."""
    file.seek(0)
    return sum(line.endswith(b"\n") for line in file)


def _cut(file: FileIO, size: int) -> None:
    file.truncate(size)


def _to_disk(file: FileIO, text: bytes) -> None:
    left = memoryview(text)
    while left:
        left = left[file.write(left) or 0 :]
    os.fsync(file.fileno())
