"""The next steps of a journal: facts turned into entries with the states after them, forwards and backwards in time.

Pure. Whatever a journal is kept in, what it records and what it reads back is made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from tourney_ray.core.chain import Entry, chain
from tourney_ray.core.events import Fact
from tourney_ray.core.evolve import evolve
from tourney_ray.core.replay import follow, read_fact
from tourney_ray.core.state import State


@dataclass(frozen=True, slots=True)
class Step:
    """An entry, the fact that it holds, and the state after it."""

    entry: Entry
    fact: Fact
    state: State


def next_steps(last: Entry | None, state: State, facts: Sequence[Fact], at: datetime) -> list[Step]:
    """A step for each fact, recorded at `at`, or at the time of the `last` entry if that is later.

    Raises `IllegalTransition` when a fact cannot follow from the one before it, `ValueError` for a time without zone.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    at = max(at, last.at) if last else at
    steps: list[Step] = []
    for fact in facts:
        last, state = chain(last, fact, at), evolve(state, fact, at)
        steps.append(Step(last, fact, state))
    return steps


def replayed(entries: Iterable[Entry]) -> Iterator[Step]:
    """Each entry with its fact and the state after it; raises `AuditDifference` where one does not follow."""
    last, state = None, State()
    for entry in entries:
        fact = read_fact(last, entry)
        last, state = entry, follow(state, fact, entry)
        yield Step(entry, fact, state)
