"""The tables of attempts and evaluations: which rows a fact about a training writes, given the state after it. Pure.

Guarantee: a task's status follows its trainings. It is `training` while any of them has something to train, whether it
never ended or began anew, and `evaluating` while only metrics are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tourney_ray.core import events as e
from tourney_ray.core.models import AttemptStatus, Failed, TaskStatus
from tourney_ray.core.state import State, Task
from tourney_ray.core.trainings import TrainingFact
from tourney_ray.store.row import Row


def project_training(fact: TrainingFact | e.LeaseEnded, state: State, at: datetime) -> Iterator[Row]:
    """The rows that `fact` writes; `state` is the one after it, `at` the moment of its recording."""
    task = state.tournaments[fact.tournament_id].tasks[fact.task_id]
    match fact:
        case e.StagingFailed():
            end = fact.failed.model_dump()
            yield _attempt(fact, **_given(fact), **end, status=AttemptStatus.FAILURE, started_at=at, ended_at=at)
            yield _status(task)
        case e.AttemptStarted():
            given = _given(fact) | {"status": AttemptStatus.TRAINING, "started_at": at, "leased_at": at}
            yield Row("attempts", {"attempt_id": fact.attempt_id, **given}, new=True)
        case e.AttemptRunning():
            yield _attempt(fact, running_at=at, gpu_indices=fact.gpu_indices, image_id=fact.image_id)
        case e.AttemptEnded():
            status = AttemptStatus.FAILURE if isinstance(fact.outcome, Failed) else AttemptStatus.SUCCESS
            yield _attempt(fact, **fact.outcome.model_dump(), status=status, ended_at=at)
            yield from (_status(task),) if _is_over(task) else ()  # while it goes on, its status stays
        case e.LeaseEnded():
            yield _attempt(fact, lease_ended_at=at, lease_end=fact.because)
        case e.TrainingRetried():
            yield from _retried(task, fact, at)
            yield _status(task)
        case e.TrainingReopened():
            yield _status(task)
        case e.CheckpointEvaluated():
            yield _evaluated(task, fact, at)
            yield _status(task)
        case e.EvaluationFailed():
            yield _evaluation(task, fact, failure=fact.reason)
            yield _status(task)


def _status(task: Task) -> Row:
    """Of a task that is not decided; its decision follows as a fact of its own."""
    status = TaskStatus.EVALUATING if _is_over(task) else TaskStatus.TRAINING
    return Row("tasks", {"task_id": task.task_id, "status": status})


def _is_over(task: Task) -> bool:
    """Whether nothing of it is to be trained any more; while an attempt of it runs, it is not.

    The last training comes first: most tasks are trained in their order, and then no other has to be looked at.
    """
    return all(training.terminal for training in reversed(task.trainings.values()))


# --- attempts


def _given(fact: e.AttemptStarted | e.StagingFailed) -> dict[str, Any]:
    where = fact.model_dump(include={"tournament_id", "task_id", "hotkey", "epoch", "node", "tree_hash"})
    return where | fact.terms.model_dump()


def _retried(task: Task, fact: e.TrainingRetried, at: datetime) -> Iterator[Row]:
    """The end of the attempt that a person had begun anew; none when it was over before."""
    attempt = task.trainings[fact.hotkey].attempt
    if attempt and attempt.ended_at == at and attempt.outcome:
        end = {"status": attempt.status, "ended_at": at, **attempt.outcome.model_dump()}
        yield Row("attempts", {"attempt_id": attempt.attempt_id, **end})


def _attempt(
    fact: e.StagingFailed | e.AttemptStarted | e.AttemptRunning | e.LeaseEnded | e.AttemptEnded, **rest: Any
) -> Row:
    return Row("attempts", {"attempt_id": fact.attempt_id, **rest})


# --- evaluations


def _evaluated(task: Task, fact: e.CheckpointEvaluated, at: datetime) -> Row:
    result = fact.result.model_dump(exclude={"environment"})
    environment = json.dumps(fact.result.environment, ensure_ascii=False)
    return _evaluation(task, fact, **result, environment=environment, evaluated_at=at)


def _evaluation(task: Task, fact: e.CheckpointEvaluated | e.EvaluationFailed, **rest: Any) -> Row:
    key = fact.model_dump(include={"task_id", "hotkey", "number", "tournament_id"})
    return Row("evaluations", {**key, **rest, "failures": task.trainings[fact.hotkey].evaluation_failures})
