"""What a tournament is expected to take, from several rehearsals of it: medians, and what 95 % stay below. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

from tourney_ray.core.models import GpuRequirement, RoundType, TournamentType
from tourney_ray.core.record import Record
from tourney_ray.report.prices import Prices, Rented, price_of
from tourney_ray.report.usage import RoundKey, Usage

NOTHING_RENTED = Rented()


class Spread(Record):
    """A number that differs from rehearsal to rehearsal."""

    p50: float
    """Half of the rehearsals stay at or below it,"""
    p95: float
    """95 % of them at or below this."""


class RoundForecast(Record):
    """One round; of another shape than the draw has it, it is another round."""

    tournament_type: TournamentType
    number: int
    round_type: RoundType
    share: float
    """Of the rehearsals that have it; the numbers below are of those."""
    tasks: Spread
    trainings: Spread
    requirements: dict[GpuRequirement, float]
    """Trainings of each need, on average."""
    gpu_hours: Spread


class Cost(Spread):
    """In the currency of the price table."""

    currency: str
    as_of: str
    """Day of the prices."""
    per: str
    """`GPU-hour` or `node-hour`."""
    with_head: bool
    """Whether the head is in it."""


class Forecast(Record):
    """All of it, over so many rehearsals."""

    seeds: int
    rounds: tuple[RoundForecast, ...]
    trainings: Spread
    attempts: Spread
    """Trainings with what begins again after a miner's failure."""
    gpu_hours: dict[str, Spread]
    """Leased, by GPU type."""
    gpu_hours_at_limit: dict[str, Spread]
    """The same if every attempt took all of its time."""
    wall_hours: dict[TournamentType, Spread]
    cost: Cost | None
    """None without prices."""


def forecast(rehearsals: Sequence[Usage], prices: Prices | None = None, rented: Rented = NOTHING_RENTED) -> Forecast:
    """What to expect after the rehearsals, of which there is at least one; `KeyError` for a price that is missing.

    What is `rented` counts for prices per node-hour.
    """
    types = dict.fromkeys(kind for usage in rehearsals for kind in usage.wall_hours)
    return Forecast(
        seeds=len(rehearsals),
        rounds=tuple(_round(key, rehearsals) for key in _rounds(rehearsals)),
        trainings=spread(sum(sum(needs.values()) for needs in usage.trainings.values()) for usage in rehearsals),
        attempts=spread(len(usage.held) for usage in rehearsals),
        gpu_hours=_by_type(rehearsals, at_limit=False),
        gpu_hours_at_limit=_by_type(rehearsals, at_limit=True),
        wall_hours={kind: spread(usage.wall_hours[kind] for usage in rehearsals) for kind in types},
        cost=_cost(rehearsals, prices, rented) if prices else None,
    )


def spread(numbers: Iterable[float]) -> Spread:
    """Of at least one number: the smallest ones that so many are not above."""
    ordered = sorted(numbers)
    p50, p95 = (ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.95))
    return Spread(p50=p50, p95=p95)


def _rounds(rehearsals: Sequence[Usage]) -> list[RoundKey]:
    return sorted({key for usage in rehearsals for key in usage.tasks}, key=lambda k: (k.tournament_type, k.number, k))


def _round(key: RoundKey, rehearsals: Sequence[Usage]) -> RoundForecast:
    having = [usage for usage in rehearsals if key in usage.tasks]
    counts = [usage.trainings.get(key, {}) for usage in having]
    needs = [requirement for requirement in GpuRequirement if any(requirement in count for count in counts)]
    return RoundForecast(
        tournament_type=key.tournament_type,
        number=key.number,
        round_type=key.round_type,
        share=len(having) / len(rehearsals),
        tasks=spread(usage.tasks[key] for usage in having),
        trainings=spread(sum(count.values()) for count in counts),
        requirements={need: sum(count.get(need, 0) for count in counts) / len(having) for need in needs},
        gpu_hours=spread(sum(h.gpu_hours for h in usage.held if h.round == key) for usage in having),
    )


def _by_type(rehearsals: Sequence[Usage], *, at_limit: bool) -> dict[str, Spread]:
    kinds = sorted({held.gpu_type for usage in rehearsals for held in usage.held})

    def hours(usage: Usage, kind: str) -> float:
        mine = (held for held in usage.held if held.gpu_type == kind)
        return sum(held.gpus * held.limit_hours if at_limit else held.gpu_hours for held in mine)

    return {kind: spread(hours(usage, kind) for usage in rehearsals) for kind in kinds}


def _cost(rehearsals: Sequence[Usage], prices: Prices, rented: Rented) -> Cost:
    found = spread(price_of(usage, prices, rented) for usage in rehearsals)
    with_head = prices.head_hour is not None
    per = "GPU-hour" if prices.gpu_hour else "node-hour"
    day = prices.as_of.isoformat()
    return Cost(p50=found.p50, p95=found.p95, currency=prices.currency, as_of=day, per=per, with_head=with_head)
