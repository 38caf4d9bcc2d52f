"""Work that should be running and is not. Level-triggered: after a crash, replay and plan are the whole recovery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tourney_ray.core import ids
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
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import (
    AttemptStatus,
    GpuRequirement,
    RoundStatus,
    TournamentStatus,
    TournamentType,
    Trained,
    TrainingStatus,
)
from tourney_ray.core.nodes import Lease
from tourney_ray.core.placement import Request, place
from tourney_ray.core.schedule import Agenda, process_tournament_scheduling
from tourney_ray.core.staging import place_staged
from tourney_ray.core.state import Match, Round, State, Task, Tournament, Training
from tourney_ray.core.tasks import slots
from tourney_ray.core.trainings import spec_of, terms_of

NOTHING_ANNOUNCED = Agenda()
NOTHING_STAGED = Cluster()


@dataclass(frozen=True, slots=True)
class Plan:
    """What should run, what waits for what, and when to plan again though nothing happened."""

    commands: list[Command] = field(default_factory=list[Command])
    waits: dict[str, str] = field(default_factory=dict[str, str])
    """Reason by what waits; every wait has one."""
    wake_at: list[datetime] = field(default_factory=list[datetime])
    demand: list[GpuRequirement] = field(default_factory=list[GpuRequirement])
    """GPUs of all trainings that run or wait, widest first: what the cluster should have room for."""

    def wants(self, command_id: str) -> bool:
        """Whether the command is part of the plan: an outcome of any other is stale."""
        return any(command.command_id == command_id for command in self.commands)


def plan(state: State, now: datetime, agenda: Agenda = NOTHING_ANNOUNCED, cluster: Cluster = NOTHING_STAGED) -> Plan:
    """All commands that should be running at `now`, those already running included.

    Which nodes there are, the state says; of the cluster count how many trainings it may run, and what lies where.
    """
    result = Plan()
    waiting: list[Request] = []
    for t in state.tournaments.values():
        last = t.round if t.status is TournamentStatus.ACTIVE else None
        if t.status is TournamentStatus.PENDING:
            process_pending_tournaments(t, now, result)
        elif t.status is TournamentStatus.COMPLETED and not t.secret_seed:
            result.commands.append(RevealSecretSeed(t.tournament_id))
        elif last is not None and last.status is RoundStatus.PENDING:
            _prepare_tasks(t, last, now, result)
        elif last is not None and last.status is RoundStatus.ACTIVE:
            waiting += monitor_training_tasks(t, last, now, result)
    for lease in state.leases.values():
        _release(state, lease, result)
    _admit(waiting, cluster, state, result)
    for tournament_type in agenda.types:
        _announce(state, tournament_type, agenda, now, result)
    return result


def _announce(state: State, tournament_type: TournamentType, agenda: Agenda, now: datetime, result: Plan) -> None:
    held = sum(t.tournament_type is tournament_type for t in state.tournaments.values())
    due = process_tournament_scheduling(state, tournament_type, agenda.rules, now)
    if due is None or (held and not agenda.endless):
        return
    if due > now:
        result.wake_at.append(due)
        result.waits[tournament_type.value] = f"the next {tournament_type.value} tournament starts at {due:%F %T} UTC"
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
        result.waits[t.tournament_id] = "the miners are asked for their repositories"
        return
    result.wake_at.append(due)
    wait = f"{len(t.entrants)} of {t.rules.min_miners} entrants: the miners are asked again at {due:%H:%M:%S} UTC"
    result.waits[t.tournament_id] = wait


def monitor_training_tasks(t: Tournament, active: Round, now: datetime, result: Plan) -> list[Request]:
    """Watch the attempts that hold a lease, evaluate finished trainings; return those that wait for GPUs."""
    waiting: list[Request] = []
    for task in _open_tasks(t, active):
        for training in task.trainings.values():
            key = training.key
            if training.status is TrainingStatus.TRAINING and training.attempt:
                result.commands.append(Train(t.tournament_id, training.attempt.spec, training.attempt.node, None))
            elif training.terminal and training.evaluated:
                result.waits[key] = "evaluated; the task's other entrants are not done"
            elif training.status is TrainingStatus.FAILURE:
                result.waits[key] = "failed; the task's other entrants are not done"
            elif training.not_before and training.not_before > now:
                result.wake_at.append(training.not_before)
                result.waits[key] = f"{training.trouble}; tried again at {training.not_before:%H:%M:%S} UTC"
            elif training.status is TrainingStatus.SUCCESS:
                result.commands.append(_evaluate(t, task, training))
            else:
                waiting.append(_request(t, task, training))
    return waiting


def _request(t: Tournament, task: Task, training: Training) -> Request:
    unbuilt = None if training.hotkey in t.images else (t.tournament_id, training.hotkey)
    return Request(training.key, task.gpu_requirement, task.hours, training, unbuilt)


def _open_tasks(t: Tournament, active: Round) -> Iterator[Task]:
    for match in active.matches.values():
        for slot in sorted(match.tasks):
            task = t.tasks[match.tasks[slot]]
            if task.decided is None:
                yield task


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
        result.waits[key] = f"{match.trouble[slot]}; the preparation is repeated at {due:%H:%M:%S} UTC"
        return
    place = ids.TaskPlace(match.match_id, slot, match.preparations.get(slot, 0) + 1)
    where = t.tournament_id, t.tournament_type, drawn.round_type
    result.commands.append(PrepareTask(*where, place, ids.task_id(place), match.replaces.get(slot)))
    result.waits[key] = "its task is prepared"


def _release(state: State, lease: Lease, result: Plan) -> None:
    """End the lease of an attempt that is over, or say what that waits for; one that goes on has its own watcher."""
    t = state.tournaments[lease.tournament_id]
    attempt = t.tasks[lease.task_id].trainings[lease.hotkey].attempts[lease.epoch - 1]
    node = state.nodes[lease.node]
    if attempt.status is AttemptStatus.TRAINING and t.status is TournamentStatus.ACTIVE:
        return
    if node.lost_at:
        free = f"{lease.gpus}×{lease.gpu_type} of {lease.node}, lost at {node.lost_at:%F %T} UTC, are free"
        result.waits[f"lease.{lease.attempt_id}"] = f"{free} when it comes back or somebody fences it"
        return
    result.commands.append(Release(t.tournament_id, attempt.spec, lease.node))
    result.waits[f"lease.{lease.attempt_id}"] = f"{lease.node} makes sure that nothing of it runs any more"


def _admit(waiting: list[Request], cluster: Cluster, state: State, result: Plan) -> None:
    if cluster.staged is None:
        placed = place(waiting, state, cluster.max_trainers)
    else:
        placed = place_staged(waiting, state, cluster)
    result.waits.update(placed.waits)
    running = [c.spec.gpu_requirement for c in result.commands if isinstance(c, Train)]
    wanted = Counter([*running, *(request.requirement for request in waiting)])
    for requirement in sorted(wanted, key=lambda r: (-r.gpus, r.value)):
        result.demand.extend([requirement] * wanted[requirement])
    for request in waiting:
        if request.key in placed.nodes and request.training:
            result.commands.append(_start(state, request.training, placed.nodes[request.key]))
        if request.key in placed.stagings and request.training:
            result.commands.append(_stage(state, request.training, placed.stagings[request.key]))


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


def _stage(state: State, training: Training, node: str) -> Stage:
    t = state.tournaments[training.tournament_id]
    spec = spec_of(t, t.tasks[training.task_id], training, len(training.attempts) + 1)
    return Stage(t.tournament_id, spec, node, t.images.get(training.hotkey))


def _evaluate(t: Tournament, task: Task, training: Training) -> Evaluate:
    attempt = training.attempts[-1]
    checkpoint = attempt.outcome.checkpoint if isinstance(attempt.outcome, Trained) else ""
    return Evaluate(
        tournament_id=t.tournament_id,
        task_id=task.task_id,
        task_type=task.task_type,
        hotkey=training.hotkey,
        attempt_id=attempt.attempt_id,
        checkpoint=checkpoint,
        data=task.data,
        number=task.evaluation,
        tries=training.evaluation_failures + training.taken_back,
        deaths=training.evaluator_deaths,
    )
