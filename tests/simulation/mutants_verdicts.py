"""Planted bugs about draws, rankings, verdicts, points and weights."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.planting import CALM, Mutant, everywhere
from tourney_ray.core import draw, rounds, rulings, scoring, settle, verdict, weights
from tourney_ray.core.decisions import MatchDecided, Ranked, Standing
from tourney_ray.core.metrics import LOSS, METRICS, Metric
from tourney_ray.core.models import TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.core.scoring import Submission
from tourney_ray.core.state import Round, Tournament, Training
from tourney_ray.core.verdict import Decision
from tourney_ray.simulation.run import Setting

GROUPS = replace(CALM, entrants=14)
ODD = replace(GROUPS, rules=Rules(group_advance=7))


# --- draws and rounds


def unseeded_draw(patch: pytest.MonkeyPatch) -> None:
    dice = random.Random(0)

    def order(seed: str, number: int, purpose: str, items: Iterable[str]) -> list[str]:
        return sorted(items, key=lambda item: dice.random())

    everywhere(patch, draw.drawn_order, order)


def bye_of_the_worst(patch: pytest.MonkeyPatch) -> None:
    honest = rounds._knockout_round

    def knockout(players: tuple[str, ...], *others: Any) -> Any:
        return honest((*players[-1:], *players[:-1]) if len(players) % 2 else players, *others)

    patch.setattr(rounds, "_knockout_round", knockout)


def bye_forgotten(patch: pytest.MonkeyPatch) -> None:
    honest = settle._advancing

    def advancing(t: Tournament, active: Round, decisions: Sequence[MatchDecided]) -> tuple[str, ...]:
        return tuple(h for h in honest(t, active, decisions) if h not in active.byes)

    patch.setattr(settle, "_advancing", advancing)


def eliminated_plays_on(patch: pytest.MonkeyPatch) -> None:
    honest = settle._follow

    def follow(t: Tournament, survivors: Sequence[str]) -> Any:
        gone = [h for h in t.entrants if h not in survivors]
        return honest(t, (*survivors, gone[0]) if gone and len(survivors) == 2 else survivors)

    patch.setattr(settle, "_follow", follow)


def nine_advance(patch: pytest.MonkeyPatch) -> None:
    honest = verdict.decide_group

    def decide(ranking: Sequence[Ranked], rules: Rules, *rest: Any) -> Decision:
        return honest(ranking, rules.model_copy(update={"group_advance": 9}), *rest)

    everywhere(patch, honest, decide)


# --- rankings


def wrong_direction(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rulings, "METRICS", {**METRICS, TaskType.GRPO: LOSS})


def copies_count(patch: pytest.MonkeyPatch) -> None:
    def faults(submissions: Sequence[Submission]) -> dict[str, str]:
        return {s.hotkey: reason for s in submissions if (reason := scoring._own_fault(s))}

    patch.setattr(scoring, "_faults", faults)


def champion_is_the_copy(patch: pytest.MonkeyPatch) -> None:
    honest = rulings.submission

    def submission(t: Tournament, training: Training) -> Submission:
        made = honest(t, training)
        return replace(made, registered=10**6) if made.registered < 0 else made

    patch.setattr(rulings, "submission", submission)


def untrained_counts(patch: pytest.MonkeyPatch) -> None:
    honest = rulings.submission
    patch.setattr(rulings, "submission", lambda t, training: replace(honest(t, training), fine_tuned=True))


def loser_advances(patch: pytest.MonkeyPatch) -> None:
    honest = verdict.decide_pair

    def decide(ranking: Sequence[Ranked], metric: Metric, *rest: Any) -> Decision:
        return honest(tuple(reversed(ranking)) if all(r.valid for r in ranking) else ranking, metric, *rest)

    everywhere(patch, honest, decide)


# --- the boss round


def margin_without_sign(patch: pytest.MonkeyPatch) -> None:
    def wins(metric: Metric, b: float, c: float, margin: float, equality: str) -> tuple[bool, float]:
        bound = metric.improved(b, margin * b)
        return metric.better(c, bound), bound

    everywhere(patch, verdict.challenger_wins, wins)


def equality_for_the_challenger(patch: pytest.MonkeyPatch) -> None:
    honest = verdict.challenger_wins

    def wins(metric: Metric, b: float, c: float, margin: float, equality: Any) -> tuple[bool, float]:
        won, bound = honest(metric, b, c, margin, equality)
        return won or c == bound, bound

    everywhere(patch, honest, wins)


def half_takes_the_title(patch: pytest.MonkeyPatch) -> None:
    honest = verdict.decide_boss_round

    def decide(champion: str, challenger: str, tasks: Any, planned: int) -> Decision:
        return honest(champion, challenger, tasks, planned - 1)

    everywhere(patch, honest, decide)


def difference_the_other_way(patch: pytest.MonkeyPatch) -> None:
    honest = verdict.performance_difference
    everywhere(patch, honest, lambda pairs: -honest(pairs))


# --- points and weights


def champion_earns_points(patch: pytest.MonkeyPatch) -> None:
    honest = weights.task_points
    everywhere(patch, honest, lambda wins, type_weight, without: honest(wins, type_weight, ()))


def _other_standings(patch: pytest.MonkeyPatch, change: Any) -> None:
    honest = weights.standings
    everywhere(patch, honest, lambda *given: change(honest, *given))


def not_normalised(patch: pytest.MonkeyPatch) -> None:
    def less(honest: Any, *given: Any) -> tuple[Standing, ...]:
        return tuple(s.model_copy(update={"weight": s.weight * 0.999}) for s in honest(*given))

    _other_standings(patch, less)


def loser_of_the_title_forgotten(patch: pytest.MonkeyPatch) -> None:
    _other_standings(patch, lambda honest, points, winner, dethroned, rules: honest(points, winner, None, rules))


def ties_by_name(patch: pytest.MonkeyPatch) -> None:
    def apart(honest: Any, points: dict[str, float], *others: Any) -> tuple[Standing, ...]:
        return honest({h: p + i * 1e-9 for i, (h, p) in enumerate(points.items())}, *others)

    _other_standings(patch, apart)


def _mutant(name: str, bug: str, plant: Any, caught_by: str = "invariant 5", setting: Setting = CALM) -> Mutant:
    return Mutant(name, bug, plant, caught_by, setting)


MUTANTS = (
    _mutant("unseeded draw", "A draw uses dice of its own.", unseeded_draw, "invariant 11"),
    _mutant(
        "bye of the worst", "The worst placed of an odd number has the bye.", bye_of_the_worst, "invariant 11", ODD
    ),
    _mutant("bye forgotten", "Who has a bye is not among those who play on.", bye_forgotten, setting=ODD),
    _mutant("back again", "Somebody who was eliminated plays on.", eliminated_plays_on, "invariant 11"),
    _mutant("nine advance", "The best nine of a group advance.", nine_advance, setting=GROUPS),
    _mutant("wrong direction", "A low reward is better than a high one.", wrong_direction),
    _mutant("copies count", "Of equal weights all count.", copies_count),
    _mutant("champion copied", "The champion registers last, so it is the copy.", champion_is_the_copy),
    _mutant("untrained counts", "The base model itself is a valid checkpoint.", untrained_counts),
    _mutant("loser advances", "The worse of a pair advances.", loser_advances),
    _mutant("margin's sign", "A negative metric makes the margin a gift.", margin_without_sign),
    _mutant("equality", "Just the margin is enough for the challenger.", equality_for_the_challenger),
    _mutant("half the title", "Half of the boss round's tasks take the title.", half_takes_the_title),
    _mutant("difference", "The performance difference has the other sign.", difference_the_other_way),
    _mutant("champion's points", "The champion earns points.", champion_earns_points),
    _mutant("not normalised", "The weights sum to a little less than 1.", not_normalised),
    _mutant("dethroned", "A champion that lost its title has no place.", loser_of_the_title_forgotten),
    _mutant("ties", "Equal points have different places.", ties_by_name),
)
