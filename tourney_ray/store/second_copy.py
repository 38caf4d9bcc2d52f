"""The second copy of the journal: one line of JSON per entry, beside the database, only ever appended to.

The database is written first. So a crash leaves the copy behind, never ahead: opening completes it, and refuses a copy
that is ahead or differs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from tourney_ray.core.chain import Entry
from tourney_ray.core.quoting import shown
from tourney_ray.core.replay import spell
from tourney_ray.errors import AuditDifference, StorageUnavailable


class SecondCopy:
    """The file, with how much of it is known to be whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seq = 0
        """Last entry that is known to be in the file."""
        self._size = 0

    def compared(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The same entries, each compared with its line; a missing end is no difference, nor is a line cut short there.

        Raises `AuditDifference` at the first difference, and at the end when the file has more.
        """
        with self.path.open("rb") as lines:
            for entry in entries:
                line, due = lines.readline(), entry_line(entry)
                if line == due:
                    self.seq, self._size = entry.seq, self._size + len(line)
                elif not due.startswith(line):
                    raise self._refusal(f"differs from the database at fact {entry.seq} ({shown(entry.kind, 40)})")
                yield entry
            if lines.readline():
                raise self._refusal(f"goes on after fact {self.seq}, the database's last")

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries to the disk after those that are there; raises `StorageUnavailable` when that fails.

        What a write that failed left behind is overwritten by the next one.
        """
        last, text = self.seq, bytearray()
        for entry in entries:
            last = entry.seq
            text += entry_line(entry)
        if not text:
            return
        try:
            self._write(bytes(text))
        except OSError as error:
            raise StorageUnavailable(
                f"the database has facts {self.seq + 1} to {last}, but {self.path} could not take them: {error}",
                "they are copied with the next fact that is recorded",
            ) from error
        self.seq, self._size = last, self._size + len(text)

    def _write(self, text: bytes) -> None:
        with self.path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size < self._size:
                raise OSError("somebody cut it while it was in use")
            file.truncate(self._size)
            file.seek(self._size)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _refusal(self, what: str) -> AuditDifference:
        return AuditDifference(
            f"{self.path} {what}",
            "see which of the two is right with `tourney audit FILE` and move the other one aside: it is made anew",
        )


def entry_line(entry: Entry) -> bytes:
    """The entry as it stands in the copy: one line of JSON in UTF-8, its newline included."""
    return entry.model_dump_json().encode() + b"\n"


def read_copy(path: Path, *, growing: bool = False) -> Iterator[Entry]:
    """The entries of a copy, in order. Of one that is still `growing` an unfinished last line is left out.

    Raises `AuditDifference` for a line that is not exactly as an entry is written.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if growing and not line.endswith(b"\n"):
                return
            yield read_line(line, f"line {number} of {path}")


def read_line(line: bytes, place: str) -> Entry:
    """The entry of a line that stands at `place`; raises `AuditDifference` unless it is exactly as it was written."""
    if not line.endswith(b"\n"):
        raise AuditDifference(f"{place} is cut short")
    try:
        entry = Entry.model_validate_json(line)
    except ValidationError as error:
        raise AuditDifference(f"{place} is no entry: {spell(error)}") from error
    if entry_line(entry) != line:
        raise AuditDifference(f"{place} is not as it was written: it was altered")
    return entry
