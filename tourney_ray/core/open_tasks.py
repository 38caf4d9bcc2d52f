"""What the trainings of one open task ask for: watching, evaluation, GPUs, or a little patience (RULES §6, §7).

A task may have thousands of trainings, and a fact changes one: only what changed is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tourney_ray.core.commands import Evaluate, Train
from tourney_ray.core.models import Trained, TrainingStatus
from tourney_ray.core.queueing import Line, Request
from tourney_ray.core.state import Task, Training


@dataclass(slots=True)
class TaskWork:
    """Of one task: what should be running, what waits, and when to look again though nothing happened. By hotkey."""

    tournament_id: str
    task: Task
    since: datetime
    """When its round was drawn."""
    at: datetime
    """When it was looked at."""
    commands: dict[str, Train | Evaluate] = field(default_factory=dict[str, Train | Evaluate])
    waits: dict[str, str] = field(default_factory=dict[str, str])
    """Why they wait, of those that need no GPUs."""
    line: Line | None = None
    """Trainings that wait for GPUs, in the task's order; None where none does."""
    wakes: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """Until when they pause."""
    wake_at: datetime | None = None
    """When the first pause is over."""
    holding: int = 0
    """How many of its trainings hold GPUs or wait for them."""

    def holds(self, now: datetime) -> bool:
        """Whether it is still so at that moment, as long as the task is what it was."""
        return self.at <= now and (self.wake_at is None or now < self.wake_at)

    @property
    def evaluations(self) -> list[Evaluate]:
        """What waits to be evaluated, or is."""
        return [command for command in self.commands.values() if isinstance(command, Evaluate)]


def monitor_training_tasks(
    tournament_id: str, task: Task, since: datetime, now: datetime, known: TaskWork | None = None
) -> TaskWork:
    """What a task that is not decided asks for; its round was drawn at `since`.

    `known` is what it asked for earlier, brought up to date here where that is less work.
    """
    if known and known.holds(now):
        if known.task is task:
            return known
        changed = _changed(known.task, task)
        if changed is not None and not _asks_anew(changed, known):
            _update(known, task, changed, now)
            return known
    work = TaskWork(tournament_id, task, since, now)
    _update(work, task, task.trainings.values(), now)
    return work


def _changed(before: Task, task: Task) -> list[Training] | None:
    """The trainings that are not as before; None where that would be all of them."""
    if len(before.trainings) != len(task.trainings) or before.evaluation != task.evaluation or before.run != task.run:
        return None
    both = zip(before.trainings.values(), task.trainings.values(), strict=True)
    return [new for old, new in both if new is not old]


def _asks_anew(changed: Iterable[Training], known: TaskWork) -> bool:
    """Whether one of them comes back to those that wait for GPUs, where it has its place between the others."""
    waiting = _requests(known)
    return any(t.status is TrainingStatus.PENDING and t.key not in waiting for t in changed)


def _requests(work: TaskWork) -> Mapping[str, Request]:
    """Trainings that wait for GPUs, by key."""
    return work.line.by_key if work.line else {}


def _update(work: TaskWork, task: Task, changed: Iterable[Training], now: datetime) -> None:
    work.task, work.at = task, now
    before = _requests(work)
    requests = dict(before)
    for training in changed:
        for part in (work.commands, work.waits, work.wakes):
            part.pop(training.hotkey, None)
        if asks := _monitor(work, training, now):
            requests[training.key] = asks
        else:
            requests.pop(training.key, None)
    if requests != before:
        work.line = Line(requests) if requests else None
    work.wake_at = min(work.wakes.values(), default=None)
    work.holding = len(requests) + sum(isinstance(command, Train) for command in work.commands.values())


def _monitor(work: TaskWork, training: Training, now: datetime) -> Request | None:
    """What it asks for, unless that is GPUs, is put into the work of its task; its request otherwise."""
    key, task = training.hotkey, work.task
    if training.status is TrainingStatus.TRAINING and training.attempt:
        work.commands[key] = Train(work.tournament_id, training.attempt.spec, training.attempt.node, None)
    elif training.terminal and training.evaluated:
        work.waits[key] = "evaluated; the task's other entrants are not done"
    elif training.status is TrainingStatus.FAILURE:
        work.waits[key] = "failed; the task's other entrants are not done"
    elif training.not_before and training.not_before > now:
        work.wakes[key] = training.not_before
        work.waits[key] = f"{training.trouble}; tried again at {training.not_before:%H:%M:%S} UTC"
    elif training.status is TrainingStatus.SUCCESS:
        work.commands[key] = _evaluate(work.tournament_id, task, training)
    else:
        return Request(
            key=training.key,
            requirement=task.gpu_requirement,
            hours=task.hours,
            since=work.since,
            task_id=task.task_id,
            entrant=(work.tournament_id, key),
            training=training,
        )
    return None


def _evaluate(tournament_id: str, task: Task, training: Training) -> Evaluate:
    attempt = training.attempts[-1]
    left = attempt.outcome if isinstance(attempt.outcome, Trained) else None
    return Evaluate(
        tournament_id=tournament_id,
        task_id=task.task_id,
        task_type=task.task_type,
        hotkey=training.hotkey,
        attempt_id=attempt.attempt_id,
        checkpoint=left.checkpoint if left else "",
        data=task.data,
        number=task.evaluation,
        tries=training.evaluation_failures + training.taken_back,
        deaths=training.evaluator_deaths,
        record=left.provenance if left else "",
        trained_on=attempt.node,
        gpu_type=task.gpu_requirement.gpu_type,
    )
