"""One step of the driver: take outcomes in, record them with all that the rules force, start what should be running.

Knows no Ray and no wall clock: both are given to it, so that a test or a simulation steps it by hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from tourney_ray.core.chain import Entry
from tourney_ray.core.commands import Command, Evaluate, Stage, Train
from tourney_ray.core.events import Act, Fact, ImageBuilt
from tourney_ray.core.evolve import is_known
from tourney_ray.core.leases import Cluster, Seat, news_of_nodes
from tourney_ray.core.models import GpuRequirement, TournamentStatus
from tourney_ray.core.plan import Plan, Planner
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.settle import forced
from tourney_ray.core.state import State
from tourney_ray.errors import IllegalTransition, NotAllowed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command, or what is known of it so far."""

    command_id: str
    facts: tuple[Fact, ...] = ()
    done: bool = True
    """False for progress: the command goes on."""


class FactLog(Protocol):
    """The journal, as the loop needs it."""

    @property
    def state(self) -> State:
        """The state after the last fact."""
        ...

    def append(self, facts: Sequence[Fact], at: datetime) -> Sequence[Entry]:
        """Record all facts or none; the state follows."""
        ...


class Dispatcher(Protocol):
    """Carries commands out."""

    def cluster(self) -> Cluster:
        """The nodes that are there now."""
        ...

    def announce(self, demand: Sequence[GpuRequirement], seats: Sequence[Seat]) -> None:
        """Say which GPUs are needed, and where evaluations hold theirs, whenever that changes."""
        ...

    def dispatch(self, command: Command) -> None:
        """Start a command; its outcome comes back through a later step."""
        ...


class Loop:
    """The driver's state machine around a journal and a dispatcher."""

    def __init__(self, journal: FactLog, dispatcher: Dispatcher, agenda: Agenda) -> None:
        self.journal = journal
        self._dispatcher = dispatcher
        self._agenda = agenda
        self._in_flight: set[str] = set()
        self._staging: dict[str, tuple[str, str, str]] = {}
        """Task, training and node of the stagings among them."""
        self._seats: dict[str, Seat] = {}
        """GPUs of the evaluations among them."""
        self._planner = Planner()
        self._planned: State | None = None
        """The state that the last plan was made for."""
        self._wanted: dict[str, Command] = {}
        """Commands of that plan: the outcome of any other is stale."""
        self._announced: tuple[list[GpuRequirement], list[Seat]] | None = None
        self.upcoming = Plan()
        """What the last step planned."""
        self.on_record: Callable[[Sequence[Entry]], None] = lambda entries: None
        """Told of the entries of everything that is recorded."""

    def step(self, outcomes: Sequence[Outcome], now: datetime) -> datetime | None:
        """Record the outcomes, start what should be running; the moment at which to step again without any outcome.

        Raises `Defect` when a fact contradicts the state: nothing of that step is recorded then.
        """
        cluster = self._dispatcher.cluster()
        if outcomes and self.journal.state is not self._planned:
            self._plan(self.journal.state, cluster, now)
        batch = _Batch(self.journal.state, now)
        batch.add(fact for outcome in outcomes for fact in self._take(outcome, batch))
        batch.add(news_of_nodes(batch.state, cluster))
        upcoming = self._plan(batch.state, cluster, now)
        fresh = [command for name, command in self._wanted.items() if name not in self._in_flight]
        batch.add(c.intent for c in fresh if isinstance(c, Train) and c.intent)
        self._record(batch)
        for command in fresh:
            self._fly(command)
            self._dispatcher.dispatch(command)
        self._announce(upcoming.demand, list(self._seats.values()))
        self.upcoming = upcoming
        return min(upcoming.wake_at, default=None)

    def act(self, act: Act, now: datetime) -> None:
        """Record what a person did, with all that it forces; raises `NotAllowed` when it cannot be done now.

        What it ended is not waited for any more: an outcome that comes late is ignored.
        """
        batch = _Batch(self.journal.state, now)
        try:
            batch.add([act])
        except IllegalTransition as refusal:
            raise NotAllowed(refusal.message) from refusal
        self.on_record(self.journal.append(batch.facts, now))

    @property
    def waits(self) -> dict[str, str]:
        """What waits, and for what, as of the last step."""
        return self.upcoming.waits

    @property
    def anything_waits(self) -> bool:
        """Whether `waits` has any."""
        return self.upcoming.anything_waits

    def wants(self, command_id: str) -> bool:
        """Whether the command was part of the last plan."""
        return command_id in self._wanted

    def _plan(self, state: State, cluster: Cluster, now: datetime) -> Plan:
        """What should be running; from now on only the outcomes of that are listened to."""
        under_way: dict[str, dict[str, list[str]]] = {}
        for task_id, key, node in self._staging.values():
            under_way.setdefault(task_id, {}).setdefault(key, []).append(node)
        seats = None if cluster.seats is None else dict(self._seats)
        cluster = replace(cluster, staging=under_way, seats=seats)
        upcoming = self._planner.plan(state, now, self._agenda, cluster)
        self._wanted = {command.command_id: command for command in upcoming.commands}
        return upcoming

    def _announce(self, demand: list[GpuRequirement], seats: list[Seat]) -> None:
        if (demand, seats) != self._announced:
            self._dispatcher.announce(demand, seats)
        self._announced = demand, seats

    def _fly(self, command: Command) -> None:
        self._in_flight.add(command.command_id)
        if isinstance(command, Stage):
            task_id = command.spec.task_id
            self._staging[command.command_id] = task_id, f"{task_id}.{command.spec.hotkey}", command.node
        elif isinstance(command, Evaluate) and command.node is not None:
            self._seats[command.command_id] = command.node, command.gpu_type

    def _take(self, outcome: Outcome, batch: _Batch) -> Sequence[Fact]:
        """The facts of an outcome that somebody waits for; of any other, the image that it tells of and nothing else.

        An image serves all trainings of its entrant, wherever the one for which it was built is staged by now.
        """
        in_flight = outcome.command_id in self._in_flight
        if outcome.done:
            self._in_flight.discard(outcome.command_id)
            self._staging.pop(outcome.command_id, None)
            self._seats.pop(outcome.command_id, None)
        if in_flight and self.wants(outcome.command_id):
            return outcome.facts
        if in_flight and (images := [fact for fact in outcome.facts if _is_of_use(fact, batch.state)]):
            return images
        log.warning("outcome of %s ignored: nobody waits for it any more", outcome.command_id)
        return ()

    def _record(self, batch: _Batch) -> None:
        """All of it together; the plan was made for what the journal says from then on."""
        if batch.facts:
            self.on_record(self.journal.append(batch.facts, batch.at))
        self._planned = self.journal.state


def _is_of_use(fact: Fact, state: State) -> bool:
    return isinstance(fact, ImageBuilt) and state.tournaments[fact.tournament_id].status is TournamentStatus.ACTIVE


class _Batch:
    """Facts with all that they force, to be recorded together, and the state that they will lead to."""

    def __init__(self, state: State, at: datetime) -> None:
        self.state = state
        self.at = at
        self.facts: list[Fact] = []

    def add(self, facts: Iterable[Fact]) -> None:
        """Take facts in, except those that tell what is known; raises `IllegalTransition` where one cannot follow."""
        for fact in facts:
            if not is_known(self.state, fact):
                batch, self.state = forced(self.state, fact, self.at)
                self.facts += batch
