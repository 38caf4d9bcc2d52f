"""How facts about attempts and evaluations, and what people do to them, change a training (RULES §6, §7).

Guarantee: an outcome counts only for the attempt that is the training's latest; whoever is late is refused.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from tourney_ray.core import events as e
from tourney_ray.core.ids import attempt_id
from tourney_ray.core.models import AttemptStatus, Blame, Evaluated, Failed, Terms, TrainingSpec, TrainingStatus
from tourney_ray.core.replacing import replace
from tourney_ray.core.retry import GiveUp, Retry, after_failure
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import RETRIED, Attempt, Task, Tournament, Training
from tourney_ray.errors import IllegalTransition

TrainingFact = (
    e.StagingFailed
    | e.AttemptStarted
    | e.AttemptRunning
    | e.AttemptEnded
    | e.TrainingRetried
    | e.TrainingReopened
    | e.CheckpointEvaluated
    | e.EvaluationFailed
)


def change_training(  # noqa: PLR0911 - a line per fact
    t: Tournament, task: Task, fact: TrainingFact, at: datetime
) -> Training:
    """The training after a fact about it; raises `IllegalTransition` when it cannot follow."""
    training = task.trainings[fact.hotkey]
    need(task.decided is None, fact, "its task is decided, and a verdict stands")
    match fact:
        case e.StagingFailed():
            return _staging_failed(t, task, training, fact, at)
        case e.AttemptStarted():
            return _started(t, task, training, fact, at)
        case e.AttemptRunning():
            attempt = _live_attempt(training, fact)
            _need_image(attempt, fact)
            return _with_attempt(training, replace(attempt, running_at=attempt.running_at or at))
        case e.AttemptEnded():
            return _ended(training, fact, at, t.rules)
        case e.TrainingRetried():
            return _retried(training, fact, at)
        case e.TrainingReopened():
            return _reopened(training, fact)
        case e.CheckpointEvaluated():
            return _evaluated(task, training, fact, t.rules)
        case _:
            return _evaluation_failed(task, training, fact, at, t.rules)


def terms_of(task: Task, rules: Rules) -> Terms:
    """What every entrant of the task gets alike."""
    return Terms(
        hours=task.hours,
        dataset_sha256=task.data.dataset_sha256,
        gpu_type=task.gpu_requirement.gpu_type,
        gpus=task.gpu_requirement.gpus,
        mem_limit=rules.training_mem_limit,
        nano_cpus=rules.training_nano_cpus,
    )


def terms_in(spec: TrainingSpec) -> Terms:
    """What of an attempt's spec every entrant of its task gets alike."""
    return Terms(
        hours=spec.hours_to_complete,
        dataset_sha256=spec.data.dataset_sha256,
        gpu_type=spec.gpu_requirement.gpu_type,
        gpus=spec.gpu_requirement.gpus,
        mem_limit=spec.mem_limit,
        nano_cpus=spec.nano_cpus,
    )


def spec_of(t: Tournament, task: Task, training: Training, epoch: int) -> TrainingSpec:
    """All that a trainer needs for the training's attempt of that epoch."""
    contestant, image = t.contestant(training.hotkey), t.images.get(training.hotkey)
    return TrainingSpec(
        attempt_id=attempt_id(task.task_id, training.hotkey, epoch),
        tournament_id=t.tournament_id,
        task_id=task.task_id,
        task_type=task.task_type,
        hotkey=training.hotkey,
        repo=contestant.repo,
        commit=contestant.commit,
        tree_hash=contestant.tree_hash,
        expected_repo_name=training.expected_repo_name,
        data=task.data,
        hours_to_complete=task.hours,
        gpu_requirement=task.gpu_requirement,
        mem_limit=t.rules.training_mem_limit,
        nano_cpus=t.rules.training_nano_cpus,
        epoch=epoch,
        image_id=image.image_id if image else "",
    )


def not_evaluated(training: Training) -> Training:
    """A finished training whose checkpoint is to be evaluated again; a failed one stays as it is."""
    return replace(training, evaluated=None) if training.status is TrainingStatus.SUCCESS else training


def begun_anew(training: Training) -> Training:
    """A training with a clean slate: its attempts stay on record and none of them counts any more."""
    return replace(
        training,
        status=TrainingStatus.PENDING,
        counted_from=len(training.attempts),
        not_before=None,
        evaluated=None,
        refusals=0,
        evaluation_failures=0,
        evaluator_deaths=0,
        trouble="",
        failed_by=None,
    )


def need(condition: bool, fact: e.Fact, why: str) -> None:
    """Raise `IllegalTransition` with that reason unless the condition holds."""
    if not condition:
        raise IllegalTransition(f"{fact.kind} cannot follow: {why}")


# --- attempts


def _started(t: Tournament, task: Task, training: Training, fact: e.AttemptStarted, at: datetime) -> Training:
    attempts = (*training.attempts, _next_attempt(t, task, training, fact, at))
    return replace(training, status=TrainingStatus.TRAINING, attempts=attempts)


def _staging_failed(t: Tournament, task: Task, training: Training, fact: e.StagingFailed, at: datetime) -> Training:
    need(
        fact.failed.blame is Blame.MINER, fact, f"only a miner's fault costs an attempt, not the {fact.failed.blame}'s"
    )
    attempt = _next_attempt(t, task, training, fact, at)
    attempt = replace(attempt, status=AttemptStatus.FAILURE, ended_at=at, outcome=fact.failed)
    training = replace(training, attempts=(*training.attempts, attempt))
    return _after_failure(training, fact.failed.blame, fact.failed.reason, at, t.rules)


def _next_attempt(
    t: Tournament, task: Task, training: Training, fact: e.AttemptStarted | e.StagingFailed, at: datetime
) -> Attempt:
    """The attempt that the fact begins; `IllegalTransition` unless it is the one that is due."""
    need(training.status is TrainingStatus.PENDING, fact, f"the training is {training.status}")
    need(fact.epoch == len(training.attempts) + 1, fact, f"epoch {len(training.attempts) + 1} is due")
    need(fact.terms == terms_of(task, t.rules), fact, "the terms are not the task's")
    spec = spec_of(t, task, training, fact.epoch)
    need(fact.attempt_id == spec.attempt_id, fact, f"its id is {spec.attempt_id}")
    need(fact.tree_hash == spec.tree_hash, fact, f"{fact.hotkey} entered with tree {spec.tree_hash[:12]}")
    return Attempt(fact.attempt_id, fact.epoch, fact.node, spec, started_at=at)


def _ended(training: Training, fact: e.AttemptEnded, at: datetime, rules: Rules) -> Training:
    attempt, failed = _live_attempt(training, fact), isinstance(fact.outcome, Failed)
    status = AttemptStatus.FAILURE if failed else AttemptStatus.SUCCESS
    training = _with_attempt(training, replace(attempt, status=status, ended_at=at, outcome=fact.outcome))
    if not isinstance(fact.outcome, Failed):
        return replace(training, status=TrainingStatus.SUCCESS, evaluator_deaths=0)
    return _after_failure(training, fact.outcome.blame, fact.outcome.reason, at, rules)


def _after_failure(training: Training, blame: Blame, reason: str, at: datetime, rules: Rules) -> Training:
    step = after_failure(blame, reason, training.miner_failures, training.platform_failures, rules)
    if isinstance(step, GiveUp):
        return _failed(training, blame, step.because)
    return replace(training, status=TrainingStatus.PENDING, not_before=_pause(step, at), trouble=reason)


def _failed(training: Training, blame: Blame, because: str) -> Training:
    return replace(training, status=TrainingStatus.FAILURE, failed_by=blame, not_before=None, trouble=because)


def _pause(step: Retry, at: datetime) -> datetime | None:
    return at + timedelta(seconds=step.pause_s) if step.pause_s else None


# --- what people do


def _retried(training: Training, fact: e.TrainingRetried, at: datetime) -> Training:
    need(not training.terminal or not training.evaluated, fact, f"the training is {training.status} and evaluated")
    need(training.status is not TrainingStatus.FAILURE, fact, "the training has failed: it can be reopened")
    attempt = training.attempt
    if training.status is TrainingStatus.TRAINING and attempt:
        outcome = Failed(blame=Blame.PLATFORM, kind=RETRIED, reason=f"{fact.by} began it anew: {fact.because}")
        training = _with_attempt(training, replace(attempt, status=AttemptStatus.FAILURE, ended_at=at, outcome=outcome))
        training = replace(training, status=TrainingStatus.PENDING)
    return replace(training, not_before=None)


def _reopened(training: Training, fact: e.TrainingReopened) -> Training:
    need(training.terminal, fact, f"the training is {training.status}: it can be retried")
    if training.status is TrainingStatus.FAILURE:
        return begun_anew(training)
    need(training.evaluated is not None, fact, "its checkpoint is not evaluated yet: it can be retried")
    return replace(not_evaluated(training), taken_back=training.taken_back + 1)


# --- evaluations


def _evaluated(task: Task, training: Training, fact: e.CheckpointEvaluated, rules: Rules) -> Training:
    _need_evaluation(task, training, fact)
    if fact.result.refused:
        return _after_refusal(training, fact.result, rules)
    return replace(training, evaluated=fact.result, not_before=None)


def _after_refusal(training: Training, result: Evaluated, rules: Rules) -> Training:
    """An invalid output is a failed attempt of the miner's (RULES §6); the last one's refusal stands."""
    training = replace(training, refusals=training.refusals + 1, not_before=None, trouble=result.refused)
    if training.miner_failures < rules.max_training_attempts:
        return replace(training, status=TrainingStatus.PENDING)
    return replace(_failed(training, Blame.MINER, result.refused), evaluated=result)


def _evaluation_failed(
    task: Task, training: Training, fact: e.EvaluationFailed, at: datetime, rules: Rules
) -> Training:
    _need_evaluation(task, training, fact)
    failures, deaths = training.evaluation_failures + 1, training.evaluator_deaths + fact.died
    training = replace(training, evaluation_failures=failures, evaluator_deaths=deaths, trouble=fact.reason)
    if deaths >= rules.max_evaluator_deaths:
        return _after_refusal(training, _killer(deaths, fact.reason), rules)
    step = after_failure(Blame.EVALUATOR, fact.reason, training.miner_failures, failures, rules)
    if isinstance(step, GiveUp):
        return _failed(training, Blame.EVALUATOR, step.because)
    return replace(training, not_before=_pause(step, at))


def _killer(deaths: int, reason: str) -> Evaluated:
    """The refusal of a checkpoint at which the evaluator died that often."""
    times = "twice" if deaths == 2 else f"{deaths} times"  # noqa: PLR2004
    refused = f"the evaluator died {times} at this checkpoint: {reason}"
    return Evaluated(value=math.nan, fine_tuned=False, refused=refused)


def _need_evaluation(task: Task, training: Training, fact: e.CheckpointEvaluated | e.EvaluationFailed) -> None:
    need(training.status is TrainingStatus.SUCCESS, fact, f"the training is {training.status}")
    need(training.evaluated is None, fact, "it was evaluated before")
    need(fact.number == task.evaluation, fact, "that is another evaluation of the task")


# --- finding and replacing


def _live_attempt(training: Training, fact: e.AttemptRunning | e.AttemptEnded) -> Attempt:
    attempt = training.attempt
    if attempt is None or attempt.attempt_id != fact.attempt_id or attempt.status is not AttemptStatus.TRAINING:
        raise IllegalTransition(f"{fact.kind} cannot follow: {fact.attempt_id} is not the attempt under way")
    return attempt


def _need_image(attempt: Attempt, fact: e.AttemptRunning) -> None:
    """An attempt keeps the image that was its entrant's when it started, also when that one is replaced."""
    due = attempt.spec.image_id
    need(not due or fact.image_id in ("", due), fact, f"its image is {due}, and {fact.image_id} runs")


def _with_attempt(training: Training, attempt: Attempt) -> Training:
    return replace(training, attempts=(*training.attempts[:-1], attempt))
