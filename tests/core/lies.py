"""Journals with one lie in them, made from honest ones: a fact changed, told twice, left out, or told too early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tests.builders import CHAMPION, Script, play
from tests.builders_eventful import eventful
from tourney_ray.core import events as e
from tourney_ray.core.checker import violations
from tourney_ray.core.models import Evaluated
from tourney_ray.core.rules import Rules

NAN = float("nan")
REFUSED = Evaluated(value=NAN, refused="config.json is not the base model's")

Facts = list[e.Fact]
Which = Callable[[Any], bool]
Lie = Callable[[Facts], Facts]


@cache
def honest(name: str = "group") -> tuple[e.Fact, ...]:
    """The facts of a journal in which nobody lies."""
    journals = {
        "group": lambda: play(11),
        "pairs": lambda: play(5, rules=Rules(min_miners=2)),
        "god": lambda: play(9, rules=Rules.preset("god-2025-12")),
        "vacant": lambda: play(8, champion=False),
        "eventful": eventful,
        "refused": lambda: play(8, script=Script(values={(1, "m03"): REFUSED})),
        "no challenger": lambda: play(8, script=Script(values={(4, "m07"): NAN})),
        "no champion": lambda: play(8, script=Script(values={(4, CHAMPION): NAN})),
    }
    return tuple(fact for fact, _ in journals[name]().facts)


def broken(lie: Lie, name: str = "group") -> set[int]:
    """The invariants that the journal breaks with that lie in it."""
    return {violation.number for violation in violations(lie(list(honest(name))))}


def nth(facts: Sequence[e.Fact], kind: type[Any], n: int = 0, which: Which = lambda fact: True) -> int:
    """Index of the `n`-th fact of that kind for which that is true; from the end when negative."""
    return [i for i, fact in enumerate(facts) if isinstance(fact, kind) and which(fact)][n]


def changed(kind: type[Any], n: int = 0, which: Which = lambda fact: True, **fields: Any) -> Lie:
    """One fact says something else; a value that is a function is made from the honest one."""

    def lie(facts: Facts) -> Facts:
        i = nth(facts, kind, n, which)
        told = {name: new(getattr(facts[i], name)) if callable(new) else new for name, new in fields.items()}
        return [*facts[:i], facts[i].model_copy(update=told), *facts[i + 1 :]]

    return lie


def twice(kind: type[Any], n: int = 0, which: Which = lambda fact: True) -> Lie:
    """One fact is told twice."""

    def lie(facts: Facts) -> Facts:
        i = nth(facts, kind, n, which)
        return [*facts[: i + 1], *facts[i:]]

    return lie


def without(kind: type[Any], n: int = 0, which: Which = lambda fact: True) -> Lie:
    """One fact is not told."""

    def lie(facts: Facts) -> Facts:
        i = nth(facts, kind, n, which)
        return [*facts[:i], *facts[i + 1 :]]

    return lie


def earlier(kind: type[Any], n: int, than: type[Any], m: int = 0) -> Lie:
    """One fact is told before another, which was before it."""

    def lie(facts: Facts) -> Facts:
        i, j = nth(facts, kind, n), nth(facts, than, m)
        assert j < i
        return [*facts[:j], facts[i], *facts[j:i], *facts[i + 1 :]]

    return lie


def added(after: type[Any], n: int, fact: Callable[[Any], e.Fact]) -> Lie:
    """One fact more, made from the one that it follows."""

    def lie(facts: Facts) -> Facts:
        i = nth(facts, after, n)
        return [*facts[: i + 1], fact(facts[i]), *facts[i + 1 :]]

    return lie


def rules(**fields: Any) -> Lie:
    """The first tournament was announced with other rules."""
    return changed(e.TournamentCreated, rules=lambda honest: honest.model_copy(update=fields))
