"""When a training that needs a whole node gets it, in a stream of narrow ones that never ends in time.

One node of 8 logical GPUs on a real local Ray cluster. Trainings are stand-ins that hold their GPUs for 50 to 100 % of
their limit, where an hour lasts a second. 12 trainings of one GPU are there at first; then a pair of 8 GPUs each comes,
and after it 9 more narrow ones every hour, all with the same limit of 2 hours. Ours is the driver's loop, which submits
to Ray what its plan starts; for raw Ray each is submitted with its resources as soon as it is there.

- ours, raw Ray: from the arrival of the wide trainings to the start of the first of them

Compared with: the wide training's first reservation, which is when all that was there before it has ended, had it taken
all of its limit; and its start on raw Ray.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import sleep, time
from typing import Any

from lab.group_round import AT, HOURS, GroupRound
from lab.ratios import Row, parser, show

from tourney_ray.core.chain import Entry
from tourney_ray.core.commands import Command, Train
from tourney_ray.core.events import Fact
from tourney_ray.core.evolve import evolve
from tourney_ray.core.leases import Cluster, Seat
from tourney_ray.core.models import GpuRequirement, Trained
from tourney_ray.core.nodes import Node
from tourney_ray.core.rules import Rules
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import State
from tourney_ray.driver.cluster import local_cluster
from tourney_ray.driver.loop import Loop, Outcome
from tourney_ray.driver.outcomes import attempt_ended, lease_ended

GPUS = 8
NODE = Cluster((Node("node", {"H100": GPUS}),))
RULES = Rules(knockout_at_most=2, group_advance=2, min_miners=2)
FIRST, EACH = 12, 9
"""Narrow trainings at first, and in every later arrival."""
NARROW, WIDE = 10**9, 60 * 10**9
"""Parameters of models that need one GPU, and all of a node's."""
WIDE_AT, EVERY = 0.5, 1.0
"""When the wide training comes, and how long it is between two arrivals, hours."""
LEAST_SHARE = 0.5
"""Of its limit that a training lasts, at least."""
RESERVED = (FIRST + GPUS - 1) // GPUS * HOURS - WIDE_AT
"""Hours from the wide training's arrival to the end of all before it, by their limits."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Trainings that come together, at an hour."""

    at_hours: float
    trainings: int
    params: int

    @property
    def gpus(self) -> int:
        """Of each."""
        return GPUS if self.params == WIDE else 1


def main() -> None:
    """Print the ratios."""
    given = parser(__doc__).parse_args()
    hour_s, later = (0.2, 2) if given.quick else (1.0, 10)
    with local_cluster({"H100": GPUS}) as cluster:
        os.environ.update(cluster.environment)
        rows = measured(cluster.address, hour_s, later)
    show("starvation", rows, given.json)


def measured(address: str, hour_s: float, later: int) -> list[Row]:
    """The rows, with so many arrivals after the wide training's."""
    from tourney_ray.driver.client import connection

    stream = [Arrival(0.0, FIRST, NARROW), Arrival(WIDE_AT, 2, WIDE)]
    stream += [Arrival(WIDE_AT + EVERY * (i + 1), EACH, NARROW) for i in range(later)]
    with connection(address):
        _warm_up()
        ours = Ours(stream, hour_s).wide_after_hours()
        raw = raw_ray(stream, hour_s)
    return [_row("ours", ours, raw, hour_s), _row("raw Ray", raw, raw, hour_s)]


def hold(seconds: float) -> float:
    """In a worker: hold the GPUs for so long; when that began."""
    began = time()
    sleep(seconds)
    return began


def _task(gpus: int) -> Any:
    import ray

    return ray.remote(hold).options(num_cpus=0, num_gpus=gpus, resources={"H100": gpus}, max_retries=0)


def _warm_up() -> None:
    import ray

    ray.get([_task(1).remote(1.0) for _ in range(GPUS)])
    ray.get(_task(GPUS).remote(0.0))


def _durations() -> random.Random:
    return random.Random("starvation")


def raw_ray(stream: Sequence[Arrival], hour_s: float) -> float:
    """Hours from the arrival of the first wide training to its start."""
    import ray

    dice, began, wide, others = _durations(), time(), list[Any](), list[Any]()
    for arrival in stream:
        _sleep_until(began + arrival.at_hours * hour_s)
        tasks = [_task(arrival.gpus).remote(_lasts_s(dice, hour_s)) for _ in range(arrival.trainings)]
        (wide if arrival.params == WIDE else others).extend(tasks)
    started = min(ray.get(wide))
    ray.get(others)
    return (started - began) / hour_s - WIDE_AT


class Facts:
    """A journal that keeps the state alone, into which tournaments come from outside."""

    def __init__(self) -> None:
        self.state = State()

    def append(self, facts: Sequence[Fact], at: datetime) -> Sequence[Entry]:
        """Let the facts happen."""
        for fact in facts:
            self.state = evolve(self.state, fact, at)
        return ()

    def join(self, other: State) -> None:
        """Take the tournaments of another state in, though one of their type may be under way here."""
        self.state = replace(self.state, tournaments={**self.state.tournaments, **other.tournaments})


class Ours:
    """The driver's loop, to which trainings come by the stream; a dispatcher that submits to Ray what it starts."""

    def __init__(self, stream: Sequence[Arrival], hour_s: float) -> None:
        self._journal = Facts()
        self._loop = Loop(self._journal, self, Agenda())
        self._arrivals = list(enumerate(stream))
        self._hour_s = hour_s
        self._dice = _durations()
        self._began = time()
        self._running: dict[Any, Train] = {}
        self._wide: list[Any] = []

    def cluster(self) -> Cluster:
        """The node."""
        return NODE

    def announce(self, demand: Sequence[GpuRequirement], seats: Sequence[Seat]) -> None:
        """Nobody scales it."""

    def dispatch(self, command: Command) -> None:
        """Submit a training; nothing is evaluated."""
        if isinstance(command, Train):
            gpus = command.spec.gpu_requirement.gpus
            task = _task(gpus).remote(_lasts_s(self._dice, self._hour_s))
            self._running[task] = command
            if gpus == GPUS:
                self._wide.append(task)

    def wide_after_hours(self) -> float:
        """Hours from the arrival of the first wide training to its start; everything runs to its end."""
        import ray

        while self._arrivals or self._running:
            self._let_arrive()
            wait_s = max(0.0, self._due_s() - time()) if self._arrivals else None
            done, _ = ray.wait(list(self._running), timeout=wait_s) if self._running else ([], [])
            self._loop.step([_ended(self._running.pop(task)) for task in done], self._now())
            if not self._running and self._arrivals:
                _sleep_until(self._due_s())
        return (min(ray.get(self._wide)) - self._began) / self._hour_s - WIDE_AT

    def _let_arrive(self) -> None:
        while self._arrivals and self._due_s() <= time():
            number, arrival = self._arrivals.pop(0)
            group = GroupRound(arrival.trainings, Cluster(), RULES, f"tourn_{number}", arrival.params, self._now())
            group.open()
            for _ in range(3):
                group.turn()  # until the round starts
            self._journal.join(group.state)
            self._loop.step((), self._now())

    def _due_s(self) -> float:
        return self._began + self._arrivals[0][1].at_hours * self._hour_s

    def _now(self) -> datetime:
        """The moment, where an hour lasts as long as it does here."""
        return AT + timedelta(hours=(time() - self._began) / self._hour_s)


def _ended(command: Train) -> Outcome:
    outcome = Trained(checkpoint=f"checkpoints/{command.spec.attempt_id}", seconds=1.0)
    return Outcome(command.command_id, (lease_ended(command, "it is over"), attempt_ended(command, outcome)))


def _lasts_s(dice: random.Random, hour_s: float) -> float:
    return dice.uniform(LEAST_SHARE, 1.0) * HOURS * hour_s


def _sleep_until(moment_s: float) -> None:
    sleep(max(0.0, moment_s - time()))


def _row(what: str, hours: float, raw: float, hour_s: float) -> Row:
    return Row(what, {"its first reservation": hours / RESERVED, "raw Ray": hours / raw}, 1, hours * hour_s * 1000)


if __name__ == "__main__":
    main()
