"""What a decision of the driver costs in a tournament of thousands of trainings, on 64 nodes of 8 GPUs.

In virtual time: the loop and the placement are the driver's own; miners, machines and containers are the simulation's.
A decision is one step of the loop: an outcome comes in, facts are recorded in memory, what should run now is planned
and started.

- a decision: the median step with about 1,000 and about 10,000 trainings, in groups of 50 on models of any size
- the slowest: the 99th percentile
- a training: all that the whole tournament costs, the simulation included, per training

Compared with: the same with about 1,000 trainings. The last column is the time in milliseconds of CPU. Goals: at
10,000 trainings at most twice what 1,000 cost per decision, 50 ms for the slowest, and 120 s in all, 12 ms a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median, quantiles
from time import process_time
from unittest.mock import patch

from lab.ratios import Row, parser, show

from tourney_ray.core.rules import Rules
from tourney_ray.driver.loop import Loop, Outcome
from tourney_ray.simulation.run import Run, Setting

RULES = Rules(group_size=50, group_model_range_b=(0.1, 60.0))
NODES = "64x8H100"
ENTRANTS = {1_000: 940, 10_000: 9_480}
"""So many enter for about so many trainings: the rounds after the groups are small."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one tournament, seconds of CPU."""

    trainings: int
    steps: list[float]
    whole: float


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__).parse_args()
    entrants = (20, 40) if arguments.quick else ENTRANTS.values()
    show("scale", compared([played(count) for count in entrants]), arguments.json)


def played(entrants: int) -> Cost:
    """One tournament, every step of its driver timed; one in which anything is broken is no measurement."""
    steps: list[float] = []
    honest = Loop.step

    def step(self: Loop, outcomes: Sequence[Outcome], now: datetime) -> datetime | None:
        began = process_time()
        wake_at = honest(self, outcomes, now)
        steps.append(process_time() - began)
        return wake_at

    began = process_time()
    with patch.object(Loop, "step", step):
        result = Run(Setting(entrants=entrants, nodes=NODES, rules=RULES, explains=False), seed=1).play()
    if result.broken:
        raise SystemExit(f"the tournament of {entrants} entrants broke: {result.broken[0]}")
    trainings = sum(len(task.trainings) for t in result.state.tournaments.values() for task in t.tasks.values())
    return Cost(trainings, steps, process_time() - began)


def compared(costs: Sequence[Cost]) -> list[Row]:
    """Three rows for each tournament, against the first."""
    few = costs[0]
    rows: list[Row] = []
    for cost in costs:
        parts = {
            "a decision": (median(cost.steps), median(few.steps)),
            "the slowest": (quantiles(cost.steps, n=100)[-1], quantiles(few.steps, n=100)[-1]),
            "a training": (cost.whole / cost.trainings, few.whole / few.trainings),
        }
        for what, (seconds, least) in parts.items():
            ratios = {f"with {few.trainings:,}": seconds / least}
            rows.append(Row(f"{what}; {cost.trainings:,} trainings", ratios, len(cost.steps), seconds * 1000))
    return rows


if __name__ == "__main__":
    main()
