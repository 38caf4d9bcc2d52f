"""Invariant 5 at a tournament's end: title, difference, points, places and weights follow from what was decided.

The formulas of RULES §8 and §9 are written out here once more; see `verdict` and `weights` for the ones that decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from tourney_ray.core import events as e
from tourney_ray.core.models import TaskType
from tourney_ray.core.rules import Rules

Values = tuple[TaskType, float | None, float | None]
"""Type of a task of the boss round, and the champion's and the challenger's valid metric there."""


def broken_ending(
    fact: e.TournamentCompleted, champion: str | None, won: Mapping[str, float], boss: Sequence[Values], rules: Rules
) -> Iterator[str]:
    """What of the end does not follow; `won`: points by hotkey of everybody who won a task, the leaders included."""
    titles = (
        ("vacant",) if fact.winner is None else ("defended",) if fact.winner == champion else ("won", "uncontested")
    )
    if fact.title not in titles:
        yield f"the title of {fact.tournament_id} is {fact.title}, {titles[0]} is due"
    due = median(_differences(boss)) if _differences(boss) else 0.0
    if not math.isclose(fact.performance_difference, due, abs_tol=1e-12):
        yield f"the difference of {fact.tournament_id} is {fact.performance_difference!r}, {due!r} is due"
    leaders = [h for h in (fact.winner, champion if champion != fact.winner else None) if h is not None]
    points = {h: p for h, p in won.items() if h not in (fact.winner, champion)}
    expected = _places(leaders, points, rules)
    found = {s.hotkey: (s.place, s.points, s.weight) for s in fact.standings}
    for hotkey in {**expected, **found}:
        if not _alike(found.get(hotkey), expected.get(hotkey)):
            yield f"{hotkey} has (place, points, weight) {found.get(hotkey)}, {expected.get(hotkey)} is due"


def _differences(boss: Sequence[Values]) -> list[float]:
    return [
        ((c - b) if task_type is TaskType.GRPO else (b - c)) / abs(b) if b else 0.0
        for task_type, b, c in boss
        if b is not None and c is not None
    ]


def _places(leaders: Sequence[str], points: Mapping[str, float], rules: Rules) -> dict[str, tuple[int, float, float]]:
    count = len(leaders) + len(points)
    worth = [_worth(count, k, rules) for k in range(count)]
    places = {h: (i + 1, 0.0, worth[i] / sum(worth)) for i, h in enumerate(leaders)}
    for hotkey, earned in points.items():
        first = len(leaders) + sum(p > earned for p in points.values())
        last = first + sum(p == earned for p in points.values())
        places[hotkey] = (first + 1, earned, sum(worth[first:last]) / (last - first) / sum(worth))
    return places


def _worth(count: int, k: int, rules: Rules) -> float:
    """Of the place after `k` others."""
    if rules.weight_mapping == "geometric":
        return rules.weight_decay_base**k
    return rules.weight_decay_rate ** -(k / max(1, count - 1))


def _alike(one: tuple[int, float, float] | None, other: tuple[int, float, float] | None) -> bool:
    return one is not None and other is not None and all(map(math.isclose, one, other))
