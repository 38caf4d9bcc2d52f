"""The checker finds what is wrong with leases and money in facts that somebody changed (invariants 1, 2, 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.builders_eventful import eventful
from tourney_ray.core import events as e
from tourney_ray.core.checker import violations

FACTS = [fact for fact, _ in eventful().facts]
Forgery = Callable[[list[e.Fact]], list[e.Fact]]


def at(kind: type[e.Record], nth: int = 0) -> int:
    """Index of the n-th fact of that kind."""
    return [i for i, fact in enumerate(FACTS) if isinstance(fact, kind)][nth]


def changed(kind: type[e.Record], nth: int = 0, **fields: Any) -> Forgery:
    place = at(kind, nth)
    return lambda facts: [*facts[:place], facts[place].model_copy(update=fields), *facts[place + 1 :]]


def twice(kind: type[e.Record], nth: int = 0) -> Forgery:
    place = at(kind, nth)
    return lambda facts: [*facts[: place + 1], facts[place], *facts[place + 1 :]]


def without(kind: type[e.Record], nth: int = 0) -> Forgery:
    place = at(kind, nth)
    return lambda facts: facts[:place] + facts[place + 1 :]


def bigger(nth: int = 0) -> Forgery:
    """An attempt that takes all GPUs of its node."""
    start = FACTS[at(e.AttemptStarted, nth)]
    assert isinstance(start, e.AttemptStarted)
    return changed(e.AttemptStarted, nth, terms=start.terms.model_copy(update={"gpus": 8}))


FORGERIES: list[tuple[Forgery, int, str]] = [
    (twice(e.AttemptStarted), 1, "began twice"),
    (twice(e.AttemptStarted), 1, "of the same training was under way"),
    (changed(e.AttemptStarted, node="n9"), 1, "began on n9, which is not there"),
    (bigger(1), 1, "takes 8×H100 of n1, where 1 of 8 are held"),
    (changed(e.AttemptRunning, gpu_indices=(0, 1)), 1, "sees 2 GPUs and has leased 1"),
    (changed(e.AttemptRunning, attempt_id="nobody's"), 1, "nobody's runs without a lease"),
    (twice(e.LeaseEnded), 2, "ended, and there was none"),
    (changed(e.LeaseEnded, witness="fence"), 2, "ended by a fence, and n1 was not fenced"),
    (without(e.NodeFenced), 2, "ended by a fence, and n3 was not fenced"),
    (without(e.NodeJoined), 1, "began on n1, which is not there"),
    (twice(e.TransferCredited), 7, "was credited twice"),
    (without(e.TransferCredited), 7, "was charged more than it has"),
    (twice(e.Charged), 7, "was charged twice"),
    (changed(e.Charged, rao=1), 7, "was charged 1 RAO, the fee is 200000000"),
    (without(e.Charged), 7, "entered without having paid"),
    (changed(e.Refunded, coldkey="somebody"), 7, "somebody got 200000000 RAO back"),
    (twice(e.Refunded), 7, "got its fee back twice"),
    (without(e.TournamentCancelled), 7, "got its fee back for a tournament that goes on with it"),
    (without(e.Refunded), 7, "and the fee did not go back"),
]


def test_an_honest_journal_breaks_nothing() -> None:
    assert violations(FACTS) == []


@pytest.mark.parametrize(("forge", "number", "what"), FORGERIES, ids=lambda value: str(value)[:50])
def test_a_changed_fact_is_found(forge: Forgery, number: int, what: str) -> None:
    found = violations(forge(FACTS))
    assert [each for each in found if each.number == number and what in str(each)], list(map(str, found))
