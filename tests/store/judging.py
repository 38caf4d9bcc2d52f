"""What a reader says of a journal, held to the promise that it is one line which names the place."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from tests.store.mutations import ENTRIES, HEAD
from tourney_ray.core.chain import Entry
from tourney_ray.errors import TourneyError
from tourney_ray.report.audit import audit
from tourney_ray.store.agreement import check_agreement
from tourney_ray.store.sources import open_source

PLACE = re.compile(r"\b(fact|line|row) \S")
LONGEST = 700


def complaint(path: Path) -> str:
    """What `tourney audit` says of a journal; empty when all is equal, and then it is the one that was recorded, or it
    has another head.
    """
    read: list[Entry] = []
    try:
        source = open_source(path)
        report = audit(map(partial(_noted, read), source.entries), growing=source.growing)
        notes = [*report.notes, *(check_agreement(source.database) if source.database else ())]
    except TourneyError as error:
        return one_line(error.message)
    assert not any("\n" in note for note in notes)
    assert (report.head == HEAD) == (read == ENTRIES)
    return ""


def one_line(message: str) -> str:
    assert message
    assert message.isprintable()
    assert len(message) < LONGEST
    return message


def _noted(read: list[Entry], entry: Entry) -> Entry:
    read.append(entry)
    return entry


def refused(path: Path) -> str:
    message = complaint(path)
    assert PLACE.search(message), message or "it passed"
    return message
