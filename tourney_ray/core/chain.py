"""The chain of the journal: a fact in its place, hashed with the entry before it, so that a cut or an edit shows."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from pydantic import AwareDatetime, Field

from tourney_ray.core.events import FACT, Fact
from tourney_ray.core.models import Record

GENESIS = "0" * 64
"""What the first entry has as its `previous`."""


class Entry(Record):
    """A fact in the journal."""

    seq: int = Field(ge=1)
    at: AwareDatetime
    kind: str
    body: str
    """The fact as JSON; the hash covers these very characters."""
    previous: str
    hash: str

    @property
    def fact(self) -> Fact:
        """The fact itself; raises `ValidationError` when the body is none."""
        return FACT.validate_json(self.body)


def chain(previous: Entry | None, fact: Fact, at: datetime) -> Entry:
    """The entry that records `fact` after `previous`."""
    seq = previous.seq + 1 if previous else 1
    before = previous.hash if previous else GENESIS
    body = fact.model_dump_json()
    return Entry(
        seq=seq,
        at=at.astimezone(UTC),
        kind=fact.kind,
        body=body,
        previous=before,
        hash=entry_hash(seq, at, fact.kind, body, before),
    )


def entry_hash(seq: int, at: datetime, kind: str, body: str, previous: str) -> str:
    """SHA-256, in hex, over the five fields, a newline between them; the time in ISO 8601, UTC, with microseconds."""
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(f"{seq}\n{moment}\n{kind}\n{body}\n{previous}".encode()).hexdigest()
