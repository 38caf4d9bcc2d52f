"""Trainings to schedule, drawn from a seed, and how soon any schedule at all could be through with them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tourney_ray.core.models import GpuRequirement

NODE_GPUS = 8
WIDTHS = (GpuRequirement.H100_1X, GpuRequirement.H100_2X, GpuRequirement.H100_4X, GpuRequirement.H100_8X)
LIMITS = (1.0, 2.0, 3.0, 4.0, 6.0)
"""Time limits, hours."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training, in hours."""

    key: str
    requirement: GpuRequirement
    limit: float
    runs: float
    """How long it trains: known to nobody before its end."""
    builds: float
    """Building its entrant's image."""
    downloads: float
    """Bringing model and data to the node."""
    uploads: float
    """Taking away what it leaves."""
    is_built: bool = False
    """Whether its entrant trained before, so that whoever keeps images has this one."""

    @property
    def gpus(self) -> int:
        """How many GPUs it holds."""
        return self.requirement.gpus


def draw(seed: int, count: int) -> list[Job]:
    """So many trainings of mixed width, in the order of their arrival."""
    dice = random.Random(f"makespan|{seed}|{count}")
    return [drawn(dice, f"t{i:03d}", dice.choices(WIDTHS, (8, 4, 2, 1))[0], dice.choice(LIMITS)) for i in range(count)]


def drawn(dice: random.Random, key: str, requirement: GpuRequirement, limit: float, is_built: bool = False) -> Job:
    """A training that takes 60 % of its limit or more, with minutes of work before and after it."""
    runs = limit * dice.uniform(0.6, 1.0)
    builds, downloads, uploads = (dice.uniform(least, most) / 60 for least, most in ((3, 15), (2, 10), (2, 10)))
    return Job(key, requirement, limit, runs, builds, downloads, uploads, is_built)


def tournament(seed: int) -> list[list[Job]]:
    """The rounds of a text tournament of 32 entrants: a group, three knock-outs and the boss round."""
    dice = random.Random(f"tournament|{seed}")
    sizes = [("group", 1, 32, WIDTHS[:1]), ("eight", 4, 2, WIDTHS), ("four", 2, 2, WIDTHS), ("two", 1, 2, WIDTHS)]
    rounds = [
        [
            job
            for task in range(tasks)
            for job in _entrants(dice, f"{name}.{task}", entrants, dice.choice(widths), dice.choice(LIMITS))
        ]
        for name, tasks, entrants, widths in sizes
    ]
    boss = [job for task in range(6) for job in _entrants(dice, f"boss.{task}", 2, dice.choice(WIDTHS), 6.0)]
    return [*rounds, boss]


def lower_bound(jobs: Sequence[Job], nodes: int) -> float:
    """Hours that no schedule on so many nodes of 8 GPUs can beat, even one that knows how long everything runs.

    From when the first of them can begin: the longest training; all GPU-hours over all GPUs; and, by widths of which at
    most k fit on a node, the hours of those as wide or wider over k times the nodes, the widest counted as often as
    they shut others out.
    """
    bounds = [max(job.runs for job in jobs), sum(job.gpus * job.runs for job in jobs) / (nodes * NODE_GPUS)]
    for width in (2, 4, 8):
        places = NODE_GPUS // width
        taken = sum(job.runs * (job.gpus // width) for job in jobs if job.gpus >= width)
        bounds.append(taken / (places * nodes))
    return min(max(job.downloads, 0.0 if job.is_built else job.builds) for job in jobs) + max(bounds)


def _entrants(dice: random.Random, task: str, entrants: int, requirement: GpuRequirement, limit: float) -> list[Job]:
    is_built = not task.startswith("group")
    return [drawn(dice, f"{task}.{i}", requirement, limit, is_built) for i in range(entrants)]
