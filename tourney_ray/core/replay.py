"""Reading a journal back: each entry has to follow from the one before it, and its fact from the state before it.

Whoever reads entries that somebody else may have touched goes through here; nothing is taken on trust but the rules.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

from pydantic import ValidationError

from tourney_ray.core.chain import GENESIS, Entry, entry_hash
from tourney_ray.core.events import Fact
from tourney_ray.core.evolve import evolve
from tourney_ray.core.quoting import shown
from tourney_ray.core.state import State
from tourney_ray.errors import AuditDifference, IllegalTransition


def read_fact(previous: Entry | None, entry: Entry) -> Fact:
    """The fact of `entry`; raises `AuditDifference` unless the entry is whole and is the next one after `previous`."""
    if fault := _fault(previous, entry):
        raise refusal(entry, fault)
    try:
        fact = entry.fact
    except ValidationError as error:
        raise refusal(entry, f"its body is no fact: {spell(error)}") from error
    if fact.kind != entry.kind:
        raise refusal(entry, f"its body is a {fact.kind}")
    if entry.body not in (fact.model_dump_json(), as_older(fact)):
        raise refusal(entry, "its body says things twice or in another form")
    return fact


def as_older(fact: Fact) -> str:
    """The body of a fact as a version wrote it that did not know yet what the body leaves out.

    What is added to a fact, or to the rules in it, has a default that means what was the case before.
    """
    return fact.model_dump_json(exclude_unset=True)


def follow(state: State, fact: Fact, entry: Entry) -> State:
    """The state after the fact of `entry`; raises `AuditDifference` when the fact cannot follow."""
    with judged(entry):
        return evolve(state, fact, entry.at)


@contextmanager
def judged(entry: Entry) -> Generator[None]:
    """What the rules stumble over inside is an `AuditDifference` of `entry`: somebody wrote what they never give."""
    try:
        yield
    except IllegalTransition as error:
        raise refusal(entry, error.message) from error
    except LookupError as error:
        raise refusal(entry, f"it needs what is not there: {error}") from error
    except (ArithmeticError, ValueError) as error:
        raise refusal(entry, f"nothing can be computed from it: {error}") from error


def refusal(entry: Entry, why: str) -> AuditDifference:
    """The error that names `entry` and says why, in one line whatever a stranger has written there."""
    return AuditDifference(f"fact {shown(str(entry.seq), 24)} ({shown(entry.kind, 40)}): {shown(why, 400)}")


def spell(error: ValidationError) -> str:
    """The first complaint of a validation in one line: `field.path: what is wrong`."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return shown(f"{place}: {first['msg']}" if place else first["msg"])


def _fault(previous: Entry | None, entry: Entry) -> str:
    due = previous.seq + 1 if previous else 1
    if entry.at.utcoffset() != timedelta(0):
        return "its time is not in UTC: it was altered"
    if entry.seq != due:
        return f"fact {due} is due: entries are missing, repeated or out of order"
    if entry.previous != (previous.hash if previous else GENESIS):
        return "it was not chained to the entry before it: one of the two was altered or replaced"
    if entry.hash != entry_hash(entry.seq, entry.at, entry.kind, entry.body, entry.previous):
        return "its hash is not that of its content: it was altered"
    if previous and entry.at < previous.at:
        return f"its time {entry.at.isoformat()} is before that of the entry before it, {previous.at.isoformat()}"
    return ""
