"""One seed, played from the announcement to the revealed secret in virtual time, whatever goes wrong on the way."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tourney_ray.core.events import Act, NodeFenced, TournamentCancelled, TrainingRetried
from tourney_ray.core.models import TournamentStatus, TournamentType, TrainingStatus
from tourney_ray.core.rules import Rules
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import State, Tournament, Training
from tourney_ray.simulation.clock import VirtualClock
from tourney_ray.simulation.cluster import Machine, parse_nodes
from tourney_ray.simulation.faults import Faults
from tourney_ray.simulation.life import Disk, Life, Opened
from tourney_ray.simulation.miners import Script
from tourney_ray.simulation.world import World
from tourney_ray.store.memory import MemoryJournal, MemoryStore

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""Far from midnight: ids carry the date, whatever a clock that jumps shows."""
RESTART_S = (1.0, 300.0)
"""From a driver's death to the next one's first step: at least and at most."""

LONGEST_S = 60 * 24 * 3600.0
"""A run that takes longer has got stuck."""

MOST_EVENTS = 200_000
ENOUGH = 20
"""A run in which so many things are broken is not played to its end."""

CANCEL_S = 60.0
"""Between two looks of the person that cancels."""

WHO, WHY = "operator", "simulated"


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated, the same for every seed."""

    entrants: int = 8
    nodes: str = "2x8H100,1x4H100,2x1A100"
    faults: frozenset[str] = frozenset()
    rules: Rules = field(default_factory=Rules)
    types: tuple[TournamentType, ...] = (TournamentType.TEXT,)
    tournaments: int = 1
    """Of each type, one after the other."""
    cancels: bool = False
    """Whether a person cancels the first tournament on its way; one more of its type follows."""
    crash_at: int | None = None
    """The only moment of a run, counted from 1, at which the driver dies; None: as `faults` has it."""
    explains: bool = True
    """Whether every plan is searched for what neither runs nor waits for anything; a second plan at every step."""
    varies: bool = False
    """Whether entrants, types and tournaments change from seed to seed, with these numbers as the least."""


@dataclass(frozen=True, slots=True)
class Played:
    """How a run ended."""

    state: State
    broken: tuple[str, ...]
    happened: dict[str, int]
    """Faults by kind."""
    lives: int
    """Of the driver."""
    facts: int
    days: float
    """Of virtual time."""
    moments: int
    """At which the driver could have died."""


class Run:
    """A virtual world with a driver in it."""

    def __init__(self, setting: Setting, seed: int, open_journal: Callable[[], Opened] | None = None) -> None:
        dice = random.Random(f"faults|{seed}")
        store = MemoryStore()
        self._setting = setting
        self._world = World(
            clock=VirtualClock(START),
            cluster=parse_nodes(setting.nodes),
            script=Script(seed, setting.entrants),
            faults=Faults(setting.faults, dice, setting.crash_at),
            broken=[],
        )
        self._disk = Disk(open_journal or (lambda: MemoryJournal.open(store)), self._world)
        self._agenda = Agenda(setting.types, endless=True, rules=setting.rules)
        self._dice = dice
        self._lives: list[Life] = []
        self._scale = 1 + setting.entrants // 100
        self._born = 0

    def play(self) -> Played:
        """Everything that happens until all tournaments are over; what was broken is in the result."""
        self._be_born()
        self._trouble()
        if self._setting.cancels:
            self._cancel()
        clock, events = self._world.clock, 0
        while not self._over() and not self._hopeless():
            events += 1
            if clock.seconds > LONGEST_S or events > MOST_EVENTS * self._scale or not clock.next():
                self._world.broken.append(f"stuck after {clock.seconds / 86400:.1f} days: {self._waits()}")
                break
        return self._result()

    def _result(self) -> Played:
        self._world.driver = None
        for life in list(self._lives):
            life.end()
        journal = self._disk.open()
        if not self._hopeless():
            self._world.broken += map(str, self._disk.checker.end())
        facts = self._disk.seen
        result = Played(
            state=journal.state,
            broken=tuple(self._world.broken),
            happened=dict(self._world.faults.happened),
            lives=self._born,
            facts=facts,
            days=self._world.clock.seconds / 86400,
            moments=self._world.faults.moments,
        )
        journal.close()
        return result

    def _over(self) -> bool:
        if not self._lives or not self._lives[-1].alive:
            return False
        ended = [t for t in self._lives[-1].state.tournaments.values() if t.secret_seed]
        if self._lives[-1].state.leases:
            return False
        return len(ended) >= self._setting.tournaments * len(self._setting.types)

    def _hopeless(self) -> bool:
        return len(self._world.broken) >= ENOUGH

    def _waits(self) -> str:
        state = self._lives[-1].state if self._lives else State()
        return ", ".join(f"{t.tournament_id} is {t.status}" for t in state.live()) or "no tournament is live"

    # --- drivers

    def _be_born(self) -> None:
        life = Life(self._disk, self._agenda, self._bury, self._setting.explains)
        self._born += 1
        self._lives.append(life)
        self._world.driver = life
        life.step([])

    def _bury(self, life: Life) -> None:
        """The driver that has the name is started anew; of one that had lost it, nothing is left."""
        self._lives.remove(life)
        if self._world.driver is life:
            self._world.driver = None
            self._world.clock.after(self._dice.uniform(*RESTART_S), self._be_born)

    # --- what happens to the platform by the hour

    def _trouble(self) -> None:
        hourly: dict[str, Callable[[], None]] = {
            "drivers": self._be_born_twice,
            "node": self._lose_a_node,
            "engine": self._stop_an_engine,
            "disk": self._fill_the_disk,
            "clock": self._set_the_clock,
            "people": self._act,
        }
        for kind, trouble in hourly.items():
            if kind in self._world.faults.kinds:
                self._again(kind, trouble)

    def _again(self, kind: str, trouble: Callable[[], None]) -> None:
        def happen() -> None:
            if self._world.faults.strikes(kind, 1.0):
                trouble()
                self._again(kind, trouble)

        self._world.clock.after(self._dice.expovariate(1 / 3600), happen)

    def _be_born_twice(self) -> None:
        if self._lives:
            self._be_born()

    def _lose_a_node(self) -> None:
        machine = self._machine()
        if not machine.up:
            return
        machine.go(power=self._dice.random() < 0.5)  # noqa: PLR2004
        for lost in machine.watchers:
            self._world.clock.after(self._dice.uniform(0.5, 5), lost)
        machine.watchers = []
        self._nudge()
        self._world.clock.after(self._dice.uniform(10, 7200), lambda: self._come_back(machine))

    def _come_back(self, machine: Machine) -> None:
        machine.up = True
        self._nudge()

    def _stop_an_engine(self) -> None:
        machine = self._machine()
        machine.engine_up = False
        self._world.clock.after(self._dice.uniform(1, 1800), lambda: setattr(machine, "engine_up", True))

    def _fill_the_disk(self) -> None:
        self._disk.full = True
        self._world.clock.after(self._dice.uniform(1, 60), lambda: setattr(self._disk, "full", False))

    def _set_the_clock(self) -> None:
        self._world.clock.skew_s = self._dice.choice((-7200, -60, 0, 60, 7200))
        self._nudge()

    def _act(self) -> None:
        acts = self._possible_acts()
        if acts and self._lives:
            self._lives[-1].act(self._dice.choice(acts))

    def _possible_acts(self) -> list[Act]:
        state = self._lives[-1].state if self._lives else State()
        acts: list[Act] = []
        for node in state.nodes.values():
            machine = self._world.cluster.machines[node.node_id]
            if node.lost_at and not machine.up and not machine.containers:
                acts.append(NodeFenced(node=node.node_id, by=WHO, because=WHY))
        for t in state.live():
            for task in t.tasks.values() if t.status is TournamentStatus.ACTIVE else ():
                for training in task.trainings.values():
                    if training.status is TrainingStatus.TRAINING:
                        acts.append(_retried(t, training))
        return acts

    def _cancel(self) -> None:
        """A person cancels the first tournament as soon as its second round is drawn, and does so until it is done."""
        first = next(iter(self._lives[-1].state.tournaments.values()), None) if self._lives else None
        if first and first.status is TournamentStatus.CANCELLED:
            return
        if first and len(first.rounds) > 1:
            self._lives[-1].act(TournamentCancelled(tournament_id=first.tournament_id, by=WHO, because=WHY))
        self._world.clock.after(CANCEL_S, self._cancel)

    def _machine(self) -> Machine:
        return self._dice.choice(list(self._world.cluster.machines.values()))

    def _nudge(self) -> None:
        """Ray shows another list of nodes, or time has moved: the driver looks again."""
        for life in list(self._lives):
            self._world.clock.after(1.0, lambda life=life: life.step([]))


def _retried(t: Tournament, training: Training) -> TrainingRetried:
    return TrainingRetried(
        tournament_id=t.tournament_id, task_id=training.task_id, hotkey=training.hotkey, by=WHO, because=WHY
    )
