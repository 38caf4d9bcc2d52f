"""One tournament of each type, played in virtual time before it is held, where nothing fails but miners' trainings.

Guarantee: the driver's own loop decides what starts where. Nothing is checked here; `run` and its checker do that.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tourney_ray.core import events as e
from tourney_ray.core.chain import Entry
from tourney_ray.core.commands import Announce
from tourney_ray.core.evolve import evolve
from tourney_ray.core.ids import TaskPlace
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Answer, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import State
from tourney_ray.driver.loop import Loop, Outcome
from tourney_ray.errors import Defect
from tourney_ray.report.usage import Usage, usage
from tourney_ray.simulation.clock import VirtualClock
from tourney_ray.simulation.cluster import VirtualCluster
from tourney_ray.simulation.effects import VirtualDispatcher
from tourney_ray.simulation.faults import Faults
from tourney_ray.simulation.miners import Script, entrant
from tourney_ray.simulation.world import World

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
RICH_RAO = 10**15
"""What every simulated miner has: nobody is refused for money."""


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Nodes that are alike."""

    name: str
    gpus: Mapping[str, int]
    """By GPU type."""
    count: int
    instance_type: str = ""

    def node_ids(self) -> list[str]:
        """The names of its nodes in a rehearsal."""
        return [f"{self.name}-{i:03d}" for i in range(self.count)]


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is to be held, and where."""

    rules: Rules
    entrants: Mapping[TournamentType, int]
    """How many enter each tournament, all at the first pass; the types are those to be held."""
    titled: frozenset[TournamentType]
    """Types in which somebody defends."""
    nodes: Sequence[NodeKind]
    sizes: tuple[int, ...] = ()
    """Parameters of all models that there are, each alike likely; empty: any size within the rules' ranges is."""
    max_trainers: int | None = None


def rehearsals(prospect: Prospect, seeds: int, jobs: int | None = None) -> list[Usage]:
    """What the tournaments of each seed from 0 take; `jobs` processes, by default one per core.

    Raises `Defect` when one of them does not come to an end.
    """
    workers = min(jobs or len(os.sched_getaffinity(0)), seeds)
    if workers == 1:
        return [rehearse(prospect, seed) for seed in range(seeds)]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(rehearse, [prospect] * seeds, range(seeds)))


def rehearse(prospect: Prospect, seed: int) -> Usage:
    """What the tournaments of that seed take; raises `Defect` when they do not come to an end."""
    with _quietly():
        return _Driver(prospect, seed).play()


@contextmanager
def _quietly() -> Generator[None]:
    """Without the driver's log: what it says is no news of anything."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@dataclass(frozen=True, slots=True)
class _Turnout(Script):
    """Miners that all enter at once, and tasks that can all be prepared; how they train, the script has it."""

    prospect: Prospect

    def hotkeys(self, tournament_type: TournamentType) -> list[str]:
        return [f"{tournament_type.value}-{i:03d}" for i in range(self.prospect.entrants[tournament_type])]

    def transfers(self, tournament_type: TournamentType, number: int) -> list[e.TransferCredited]:
        accounts = dict.fromkeys(entrant(hotkey).coldkey for hotkey in self.hotkeys(tournament_type))
        return [e.TransferCredited(transfer_id=f"transfer-{a}", coldkey=a, rao=RICH_RAO) for a in accounts]

    def answer(self, hotkey: str, number: int) -> Answer:
        return entrant(hotkey)

    def prepares(self, place: TaskPlace) -> bool:
        return True

    def params(self, place: TaskPlace, low_b: float, high_b: float) -> int:
        known = [params for params in self.prospect.sizes if low_b <= params / 1e9 <= high_b]
        if known:
            return known[int(self.chance("size", place) * len(known))]
        return Script.params(self, place, low_b, high_b)


class _Dispatcher(VirtualDispatcher):
    """With as many trainers as the settings allow, and only those champions that there will be."""

    def __init__(self, world: World, driver: _Driver, prospect: Prospect) -> None:
        super().__init__(world, driver)
        self._prospect = prospect

    def cluster(self) -> Cluster:
        return replace(super().cluster(), max_trainers=self._prospect.max_trainers)

    def _created(self, command: Announce) -> e.TournamentCreated:
        created = super()._created(command)
        titled = command.tournament_type in self._prospect.titled
        return created if titled else created.model_copy(update={"champion": None})


class _Facts:
    """A journal that only remembers what is to be counted."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.state = State()
        self.facts: list[tuple[datetime, e.Fact]] = []

    def append(self, facts: Sequence[e.Fact], at: datetime) -> Sequence[Entry]:
        for fact in facts:
            self.state = evolve(self.state, fact, at)
            self.facts.append((at, fact))
            if isinstance(fact, e.AttemptStarted):
                self._world.leased[fact.attempt_id] = fact
        return ()


class _Driver:
    """A driver that lives to the end."""

    alive = True

    def __init__(self, prospect: Prospect, seed: int) -> None:
        cluster = VirtualCluster()
        for kind in prospect.nodes:
            for node in kind.node_ids():
                cluster.add(node, kind.gpus)
        self._types = tuple(prospect.entrants)
        self._world = World(
            clock=VirtualClock(START),
            cluster=cluster,
            script=_Turnout(seed, 0, prospect),
            faults=Faults(frozenset(), random.Random(f"rehearsal|{seed}")),
            broken=[],
            driver=self,
        )
        self._journal = _Facts(self._world)
        agenda = Agenda(self._types, rules=prospect.rules)
        self._loop = Loop(self._journal, _Dispatcher(self._world, self, prospect), agenda)
        self._steps = 0

    @property
    def state(self) -> State:
        return self._journal.state

    def hear(self, outcome: Outcome) -> None:
        self._step([outcome])

    def play(self) -> Usage:
        """Everything that happens until all is over."""
        self._step([])
        while not self._over():
            if not self._world.clock.next():
                raise Defect(f"the rehearsal stands still: {self._loop.waits}")
        return usage(self._journal.facts)

    def _over(self) -> bool:
        ended = [t for t in self.state.tournaments.values() if t.secret_seed]
        return len(ended) == len(self._types) and not self.state.leases

    def _step(self, outcomes: Sequence[Outcome]) -> None:
        clock = self._world.clock
        wake_at = self._loop.step(outcomes, clock.shown())
        self._steps += 1
        if wake_at:
            mine = self._steps
            clock.after(clock.seconds_until(wake_at), lambda: self._step([]) if mine == self._steps else None)
