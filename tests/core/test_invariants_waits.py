"""Invariant 12: whoever reads a plan learns of everything that is not finished why it is not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tests.builders import play
from tests.builders_eventful import eventful
from tourney_ray.core.evolve import evolve
from tourney_ray.core.invariants.waits import unexplained
from tourney_ray.core.models import RoundStatus
from tourney_ray.core.plan import Plan, plan
from tourney_ray.core.settle import settle
from tourney_ray.core.state import State

NOTHING = Plan()


def states() -> Iterator[tuple[State, datetime]]:
    """Every state of an eventful journal."""
    state = State()
    for fact, at in eventful().facts:
        state = evolve(state, fact, at)
        yield state, at


def settled() -> Iterator[tuple[State, datetime]]:
    return ((state, at) for state, at in states() if not settle(state))


def test_a_plan_explains_everything() -> None:
    assert [found for state, at in settled() if (found := unexplained(state, plan(state, at)))] == []


def test_without_its_reasons_a_wait_is_not_explained() -> None:
    found = set[str]()
    for state, at in settled():
        whole = plan(state, at)
        found |= set(unexplained(state, Plan(commands=whole.commands, reasons=dict.fromkeys(whole.waits, ""))))
    assert any(key.startswith("lease.") for key in found)
    assert any(key.count(".") == 1 and not key.startswith("lease.") for key in found)


def test_a_plan_of_nothing_explains_nothing() -> None:
    kinds = set[str]()
    for state, _ in settled():
        for key in unexplained(state, NOTHING):
            kinds.add("lease" if key.startswith("lease.") else "slot" if "_group_" in key else key.partition("_")[0])
    assert {"tourn", "lease", "slot"} <= kinds
    assert len(kinds) > 3  # the trainings too


def test_a_round_that_nobody_followed_is_not_explained() -> None:
    over = [s for s, _ in states() if any(t.round and t.round.status is RoundStatus.COMPLETED for t in s.live())]
    assert over
    assert all(unexplained(state, NOTHING) for state in over)


def test_when_all_is_over_there_is_nothing_to_explain() -> None:
    assert unexplained(play(8).state, NOTHING) == []
