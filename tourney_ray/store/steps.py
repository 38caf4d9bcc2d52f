"""The next steps of a journal: facts turned into entries with the states after them, forwards and backwards in time.

Pure. Whatever a journal is kept in, what it records and what it reads back is made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def next_steps(last: Entry | None, state: State, facts: Iterable[Fact], at: datetime) -> Iterator[Step]:
    """A step for each fact, recorded at `at`, or at the time of the `last` entry if that is later.

    One after the other: the states of thousands of facts do not fit into memory together. Raises `ValueError` for a
    time without zone, and while it is read `IllegalTransition` when a fact cannot follow from the one before it.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return _steps(last, state, facts, max(at, last.at) if last else at)


def _steps(last: Entry | None, state: State, facts: Iterable[Fact], at: datetime) -> Iterator[Step]:
    for fact in facts:
        last, state = chain(last, fact, at), evolve(state, fact, at)
        yield Step(last, fact, state)


def replayed(entries: Iterable[Entry]) -> Iterator[Step]:
    """Each entry with its fact and the state after it; raises `AuditDifference` where one does not follow."""
    last, state = None, State()
    for entry in entries:
        fact = read_fact(last, entry)
        last, state = entry, follow(state, fact, entry)
        yield Step(entry, fact, state)
