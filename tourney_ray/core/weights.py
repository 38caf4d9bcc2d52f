"""From points to standings, and from standings to shares of the emission (RULES §9)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from tourney_ray.core.events import Standing
from tourney_ray.core.models import TournamentType
from tourney_ray.core.rules import Rules

SPEC = Rules()


def exponential_decline_mapping(total_participants: int, rank: float, rules: Rules = SPEC) -> float:
    """Share of the `rank`-th (from 1) of so many, n: its worth, normalised so that all ranks sum to 1.

    It is worth `weight_decay_rate`^−((rank − 1)/(n − 1)) where `weight_mapping` is `spread`, and
    `weight_decay_base`^(rank − 1) where it is `geometric`. One participant or none: 1.0. Raises `ValueError` for a rank
    below 1 or beyond the participants.
    """
    if total_participants <= 1:
        return 1.0
    if not 1 <= rank <= total_participants:
        raise ValueError(f"rank {rank} is not one of 1 to {total_participants}")
    total = math.fsum(_worth(total_participants, k, rules) for k in range(1, total_participants + 1))
    return _worth(total_participants, rank, rules) / total


def _worth(total_participants: int, rank: float, rules: Rules) -> float:
    """What a rank is worth before normalising; the first 1.0."""
    if rules.weight_mapping == "geometric":
        return rules.weight_decay_base ** (rank - 1)
    return rules.weight_decay_rate ** -((rank - 1) / (total_participants - 1))


def task_points(
    wins: Iterable[tuple[int, str | None]], type_weight: float, without: Collection[str]
) -> dict[str, float]:
    """Points by hotkey: for each task won, its round's number times the type's weight.

    `wins` are (round number, winner) of all tasks; nobody in `without` (champion, tournament's winner) earns any.
    """
    rounds: dict[str, int] = {}
    for number, winner in wins:
        if winner is not None and winner not in without:
            rounds[winner] = rounds.get(winner, 0) + number
    return {hotkey: total * type_weight for hotkey, total in rounds.items()}


def standings(
    points: Mapping[str, float], winner: str | None, dethroned: str | None, rules: Rules
) -> tuple[Standing, ...]:
    """Places and weights of all who earned any: the winner, the champion that lost its title, the others by points.

    Equal points share a place and the mean of its weights; all weights sum to 1. Nobody at all: empty.
    """
    leaders = [hotkey for hotkey in (winner, dethroned) if hotkey is not None]
    others = sorted((h for h in points if h not in leaders), key=lambda h: (-points[h], h))
    tied = [[h] for h in leaders] + [list(same) for _, same in groupby(others, key=lambda h: points[h])]
    total = sum(map(len, tied))
    result: list[Standing] = []
    for group in tied:
        place = len(result) + 1
        shares = [exponential_decline_mapping(total, place + i, rules) for i in range(len(group))]
        weight = math.fsum(shares) / len(group)
        result += [Standing(hotkey=h, place=place, points=points.get(h, 0.0), weight=weight) for h in group]
    return tuple(result)


@dataclass(frozen=True, slots=True)
class TypeResult:
    """What one tournament type brings to the emission."""

    tournament_type: TournamentType
    champion: str | None
    weights: Mapping[str, float]
    """By hotkey, summing to 1 (or empty)."""
    performance_difference: float
    """Of the champion's first win under this reign."""
    consecutive_wins: int


def emission_boost(difference: float, consecutive_wins: int, rules: Rules) -> float:
    """What a clear win adds to the type's share, falling with each further win of the reign, never below 0."""
    if difference <= rules.emission_boost_threshold:
        return 0.0
    boost = rules.emission_boost_factor * (difference - rules.emission_boost_threshold)
    return max(0.0, boost - rules.emission_boost_decay * max(0, consecutive_wins - 1))


def emission_weights(
    results: Sequence[TypeResult], participants: Collection[str], registered: Collection[str] | None, rules: Rules
) -> dict[str, float]:
    """Shares of the emission by hotkey, summing to 1 with the burn hotkey's.

    Each active participant gets `participation_share`; the rest is scaled accordingly. Of a type's boosted share the
    champion takes its weight, of the base share the others theirs; what nobody takes is burnt, and so is the share of
    a hotkey outside `registered` (None: all count as registered).
    """
    present = set(participants) if registered is None else set(participants) & set(registered)
    each = min(rules.participation_share, 1 / len(participants)) if participants else 0.0
    scale = 1.0 - each * len(participants)
    shares = dict.fromkeys(sorted(present), each)
    for result in results:
        base = rules.type_weight[result.tournament_type]
        boost = emission_boost(result.performance_difference, result.consecutive_wins, rules)
        boosted = min(base + boost, rules.emission_cap[result.tournament_type])
        for hotkey, weight in result.weights.items():
            if registered is None or hotkey in registered:
                share = boosted if hotkey == result.champion else base
                shares[hotkey] = shares.get(hotkey, 0.0) + weight * share * scale
    burnt = 1.0 - math.fsum(share for hotkey, share in shares.items() if hotkey != rules.burn_hotkey)
    return {**shares, rules.burn_hotkey: max(0.0, burnt)}
