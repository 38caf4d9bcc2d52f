"""The order of a task's entrants by metric (RULES §7), and the metric of an image task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tourney_ray.core.events import Ranked
from tourney_ray.core.metrics import Metric
from tourney_ray.core.rules import Rules


@dataclass(frozen=True, slots=True)
class Submission:
    """What an entrant brings to the ranking of a task."""

    hotkey: str
    registered: int
    """Place in the registration order; the champion's is −1, so that it is never the duplicate."""
    value: float | None
    fine_tuned: bool = True
    digest: str = ""
    refused: str = ""
    """Why there is nothing to rank; empty when there is."""


def rank_task(metric: Metric, submissions: Sequence[Submission], rules: Rules) -> tuple[Ranked, ...]:
    """All submissions, the valid ones first from the best to the worst, then the invalid by registration.

    Equal values stand in registration order. In `spec` the best scores 3, others 0; with more than 8 valid the last
    max(1, ⌊n/4⌋) score −1; the invalid score −1 as soon as anybody is valid.
    """
    faults = _faults(submissions)
    ordered = sorted(submissions, key=lambda s: s.registered)
    valid = sorted((s for s in ordered if s.hotkey not in faults), key=lambda s: metric.sort_key(s.value or 0.0))
    invalid = [s for s in ordered if s.hotkey in faults]
    ranked = [_valid(metric, s, place, len(valid), rules) for place, s in enumerate(valid, start=1)]
    score = rules.score_worst if valid else rules.score_other
    return (*ranked, *(_invalid(s, faults[s.hotkey], score) for s in invalid))


def image_loss(text_guided: Sequence[float], no_text: Sequence[float], rules: Rules) -> float:
    """The loss of an image checkpoint: 0.25 of the mean with a text prompt, 0.75 of the mean without one, in `spec`.

    NaN, hence invalid, when either list is empty.
    """
    if not text_guided or not no_text:
        return math.nan
    share = rules.image_text_guided_share
    return share * _mean(text_guided) + (1 - share) * _mean(no_text)


def ordinal(place: int) -> str:
    """`1st`, `2nd`, `3rd`, `4th` …"""
    if place % 100 in (11, 12, 13):
        return f"{place}th"
    return f"{place}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th') }"


def spell(value: float | None) -> str:
    """A metric's value as verdicts print it: six significant digits, `none` where there is none."""
    return "none" if value is None else f"{value:.6g}"


def _faults(submissions: Sequence[Submission]) -> dict[str, str]:
    faults = {s.hotkey: reason for s in submissions if (reason := _own_fault(s))}
    first: dict[str, str] = {}
    for s in sorted(submissions, key=lambda s: s.registered):
        if s.hotkey in faults or not s.digest:
            continue
        if s.digest in first:
            faults[s.hotkey] = f"the same weights as {first[s.digest]}, who registered earlier"
        else:
            first[s.digest] = s.hotkey
    return faults


def _own_fault(s: Submission) -> str:
    if s.refused:
        return s.refused
    if s.value is None or not math.isfinite(s.value):
        return f"the metric is {spell(s.value)}, not a finite number"
    return "" if s.fine_tuned else "the weights are the base model's: nothing was trained"


def _valid(metric: Metric, s: Submission, place: int, count: int, rules: Rules) -> Ranked:
    penalised = max(1, math.floor(count * rules.penalised_share)) if count > rules.penalised_above else 0
    score = rules.score_best if place == 1 else rules.score_worst if place > count - penalised else rules.score_other
    because = f"{ordinal(place)} of {count} by {metric.name} {spell(s.value)}"
    return Ranked(hotkey=s.hotkey, value=s.value, valid=True, score=score, place=place, because=because)


def _invalid(s: Submission, reason: str, score: int) -> Ranked:
    return Ranked(hotkey=s.hotkey, value=s.value, valid=False, score=score, place=None, because=f"not ranked: {reason}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
