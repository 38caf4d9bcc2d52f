"""Work that should be running and is not. Level-triggered: after a crash, replay and plan are the whole recovery."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

from tourney_ray.core import ids
from tourney_ray.core.beside import seated
from tourney_ray.core.commands import (
    Announce,
    AskMiners,
    Command,
    Evaluate,
    PrepareTask,
    Release,
    RevealDrawSeed,
    RevealSecretSeed,
    Stage,
    Train,
)
from tourney_ray.core.events import AttemptStarted
from tourney_ray.core.layout import Layout
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import (
    GpuRequirement,
    RoundStatus,
    TournamentStatus,
    TournamentType,
)
from tourney_ray.core.nodes import Lease
from tourney_ray.core.open_tasks import TaskWork, monitor_training_tasks
from tourney_ray.core.placement import place
from tourney_ray.core.queueing import Placed
from tourney_ray.core.schedule import Agenda, process_tournament_scheduling
from tourney_ray.core.state import Match, Round, State, Tournament, Training
from tourney_ray.core.tasks import slots
from tourney_ray.core.trainings import spec_of, terms_of

NOTHING_ANNOUNCED = Agenda()
NOTHING_STAGED = Cluster()

_Stagings = dict[tuple[str, str], tuple[Training, Stage]]


@dataclass(slots=True)
class Plan:
    """What should run, what waits for what, and when to plan again though nothing happened."""

    commands: list[Command] = field(default_factory=list[Command])
    reasons: dict[str, str] = field(default_factory=dict[str, str])
    """Why tournaments, slots of tasks and leases wait."""
    work: list[TaskWork] = field(default_factory=list[TaskWork])
    """Of the tasks that are open."""
    placed: Placed = field(default_factory=Placed)
    """Of the trainings that ask for GPUs."""
    wake_at: list[datetime] = field(default_factory=list[datetime])
    demand: list[GpuRequirement] = field(default_factory=list[GpuRequirement])
    """GPUs of all trainings that run or wait, widest first: what the cluster should have room for."""

    @property
    def waits(self) -> dict[str, str]:
        """Reason by what waits; every wait has one. As many as there are trainings: not made unless asked for."""
        tasks = {f"{w.task.task_id}.{hotkey}": why for w in self.work for hotkey, why in w.waits.items()}
        return self.reasons | tasks | self.placed.waits

    @property
    def anything_waits(self) -> bool:
        """Whether `waits` has any."""
        placed = self.placed
        return bool(self.reasons or placed.reasons or placed.behind) or any(work.waits for work in self.work)

    def wants(self, command_id: str) -> bool:
        """Whether the command is part of the plan: an outcome of any other is stale."""
        return any(command.command_id == command_id for command in self.commands)


def plan(state: State, now: datetime, agenda: Agenda = NOTHING_ANNOUNCED, cluster: Cluster = NOTHING_STAGED) -> Plan:
    """All commands that should be running at `now`, those already running included.

    Which nodes there are, the state says; of the cluster count how many trainings it may run, and what lies where.
    """
    return Planner().plan(state, now, agenda, cluster)


class Planner:
    """Plans one state after the other: what did not change since the last one is not looked at again.

    Guarantee: what it says of a state does not depend on the states that it saw before.
    """

    def __init__(self) -> None:
        self._rounds: dict[str, _OpenRound] = {}
        """By tournament."""
        self._stagings: _Stagings = {}
        """By training and node."""
        self._layout = Layout()

    def plan(self, state: State, now: datetime, agenda: Agenda, cluster: Cluster) -> Plan:
        """As the function `plan`."""
        result, before, self._rounds = Plan(), self._rounds, {}
        for t in state.tournaments.values():
            last = t.round if t.status is TournamentStatus.ACTIVE else None
            if t.status is TournamentStatus.PENDING:
                process_pending_tournaments(t, now, result)
            elif t.status is TournamentStatus.COMPLETED and not t.secret_seed:
                result.commands.append(RevealSecretSeed(t.tournament_id))
            elif last is not None and last.status is RoundStatus.PENDING:
                _prepare_tasks(t, last, now, result)
            elif last is not None and last.status is RoundStatus.ACTIVE:
                known = before.get(t.tournament_id)
                current = known if known and known.active.matches is last.matches else _OpenRound(last, known)
                self._rounds[t.tournament_id] = current
                result.work += current.work(t, now)
        _count_demand(result)
        watched = {command.spec.attempt_id for command in result.commands if isinstance(command, Train)}
        for attempt_id, lease in state.leases.items():
            if attempt_id not in watched:
                _release(state, lease, result)
        self._admit(_let_evaluate(cluster, state, result), state, now, result)
        for tournament_type in agenda.types:
            _announce(state, tournament_type, agenda, now, result)
        return result

    def _admit(self, cluster: Cluster, state: State, now: datetime, result: Plan) -> None:
        """Give GPUs and places on nodes to those that wait for them."""
        placed = place([work.line for work in result.work if work.line], state, cluster, now, self._layout)
        before, self._stagings, result.placed = self._stagings, {}, placed
        for key, request in placed.chosen.items():
            training = cast("Training", request.training)  # as `open_tasks` makes them
            if key in placed.nodes:
                result.commands.append(_start(state, training, placed.nodes[key]))
            else:
                result.commands.append(self._stage(state, training, placed.stagings[key], before))

    def _stage(self, state: State, training: Training, node: str, before: _Stagings) -> Stage:
        """The staging of that training on that node: the same as before, as long as its image is."""
        t, key = state.tournaments[training.tournament_id], (training.key, node)
        image = t.images.get(training.hotkey)
        known, staging = before.get(key, (None, None))
        if staging is None or known is not training or staging.image is not image:
            spec = spec_of(t, t.tasks[training.task_id], training, len(training.attempts) + 1)
            staging = Stage(t.tournament_id, spec, node, image)
        self._stagings[key] = training, staging
        return staging


class _OpenRound:
    """The tasks of a round that is played, in the order of its matches, and what each asks for."""

    def __init__(self, active: Round, before: _OpenRound | None) -> None:
        self.active = active
        self._tasks = [m.tasks[slot] for m in active.matches.values() if not m.decided for slot in sorted(m.tasks)]
        known = before._known if before else {}
        self._known: dict[str, TaskWork] = {task_id: known[task_id] for task_id in self._tasks if task_id in known}

    def work(self, t: Tournament, now: datetime) -> list[TaskWork]:
        """Of every task that is not decided."""
        open_tasks = [t.tasks[task_id] for task_id in self._tasks if t.tasks[task_id].decided is None]
        for task in open_tasks:
            known = self._known.get(task.task_id)
            work = monitor_training_tasks(t.tournament_id, task, self.active.drawn_at, now, known)
            self._known[task.task_id] = work
        return [self._known[task.task_id] for task in open_tasks]


def _announce(state: State, tournament_type: TournamentType, agenda: Agenda, now: datetime, result: Plan) -> None:
    held = sum(t.tournament_type is tournament_type for t in state.tournaments.values())
    due = process_tournament_scheduling(state, tournament_type, agenda.rules, now)
    if due is None or (held and not agenda.endless):
        return
    if due > now:
        result.wake_at.append(due)
        result.reasons[tournament_type.value] = f"the next {tournament_type.value} tournament starts at {due:%F %T} UTC"
        return
    reign = state.reigns.get(tournament_type)
    champion, wins = (reign.champion, reign.wins) if reign else (None, 0)
    result.commands.append(Announce(tournament_type, held + 1, champion, wins, agenda.rules))


def process_pending_tournaments(t: Tournament, now: datetime, result: Plan) -> None:
    """Ask the miners, activate with enough of them, else ask again later."""
    if t.unanswered:
        return
    enough = len(t.entrants) >= t.rules.min_miners
    if enough:
        result.commands.append(RevealDrawSeed(t.tournament_id))
        return
    known = frozenset({*t.entrants, *((t.champion.hotkey,) if t.champion else ())})
    due = t.passed_at + timedelta(minutes=t.rules.reask_minutes) if t.passed_at else now
    if due <= now:
        result.commands.append(AskMiners(t.tournament_id, t.tournament_type, t.passes + 1, known))
        result.reasons[t.tournament_id] = "the miners are asked for their repositories"
        return
    result.wake_at.append(due)
    wait = f"{len(t.entrants)} of {t.rules.min_miners} entrants: the miners are asked again at {due:%H:%M:%S} UTC"
    result.reasons[t.tournament_id] = wait


def _prepare_tasks(t: Tournament, drawn: Round, now: datetime, result: Plan) -> None:
    for match in drawn.matches.values():
        for slot in range(slots(t.tournament_type, drawn.round_type, t.rules)):
            if slot not in match.tasks:
                _prepare_slot(t, drawn, match, slot, now, result)


def _prepare_slot(t: Tournament, drawn: Round, match: Match, slot: int, now: datetime, result: Plan) -> None:
    key = f"{match.match_id}.{slot}"
    due = match.not_before.get(slot, now)
    if due > now:
        result.wake_at.append(due)
        result.reasons[key] = f"{match.trouble[slot]}; the preparation is repeated at {due:%H:%M:%S} UTC"
        return
    place = ids.TaskPlace(match.match_id, slot, match.preparations.get(slot, 0) + 1)
    where = t.tournament_id, t.tournament_type, drawn.round_type
    result.commands.append(PrepareTask(*where, place, ids.task_id(place), match.replaces.get(slot)))
    result.reasons[key] = "its task is prepared"


def _release(state: State, lease: Lease, result: Plan) -> None:
    """End the lease of an attempt that is over, or say what that waits for."""
    t = state.tournaments[lease.tournament_id]
    attempt = t.tasks[lease.task_id].trainings[lease.hotkey].attempts[lease.epoch - 1]
    node = state.nodes[lease.node]
    if node.lost_at:
        free = f"{lease.gpus}×{lease.gpu_type} of {lease.node}, lost at {node.lost_at:%F %T} UTC, are free"
        result.reasons[f"lease.{lease.attempt_id}"] = f"{free} when it comes back or somebody fences it"
        return
    result.commands.append(Release(t.tournament_id, attempt.spec, lease.node))
    result.reasons[f"lease.{lease.attempt_id}"] = f"{lease.node} makes sure that nothing of it runs any more"


def _count_demand(result: Plan) -> None:
    """Let the commands of all tasks run, and sum up the GPUs that these have and want."""
    wanted = Counter[GpuRequirement]()
    for work in result.work:
        result.commands += work.commands.values()
        wanted[work.task.gpu_requirement] += work.holding
        if work.wake_at:
            result.wake_at.append(work.wake_at)
    for requirement in sorted(+wanted, key=lambda r: (-r.gpus, r.value)):
        result.demand.extend([requirement] * wanted[requirement])


def _let_evaluate(cluster: Cluster, state: State, result: Plan) -> Cluster:
    """The cluster with a GPU held by each evaluation that may run now, before any training; the others wait."""
    if cluster.seats is None:
        return cluster
    evaluations = [command for work in result.work for command in work.evaluations]
    seats = seated(evaluations, state, cluster)
    result.commands = [c for c in result.commands if not isinstance(c, Evaluate)] + seats.commands
    result.reasons |= seats.waits
    wanted = Counter(work.task.gpu_requirement.narrowest for work in result.work for _ in work.evaluations)
    result.demand += [requirement for requirement in sorted(wanted) for _ in range(wanted[requirement])]
    return replace(cluster, seats=seats.seats)


def _start(state: State, training: Training, node: str) -> Train:
    t = state.tournaments[training.tournament_id]
    task, epoch = t.tasks[training.task_id], len(training.attempts) + 1
    attempt_id = ids.attempt_id(task.task_id, training.hotkey, epoch)
    intent = AttemptStarted(
        tournament_id=t.tournament_id,
        task_id=task.task_id,
        hotkey=training.hotkey,
        attempt_id=attempt_id,
        epoch=epoch,
        node=node,
        tree_hash=t.contestant(training.hotkey).tree_hash,
        terms=terms_of(task, t.rules),
    )
    return Train(t.tournament_id, spec_of(t, task, training, epoch), node, intent)
