"""How facts about rounds, tasks, trainings and verdicts change their tournament; the second half of `evolve`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from tourney_ray.core import events as e
from tourney_ray.core.models import AttemptStatus, Evaluated, Failed, RoundStatus, TournamentStatus, TrainingStatus
from tourney_ray.core.resources import get_tournament_gpu_requirement
from tourney_ray.core.retry import GiveUp, after_failure, back_off_s
from tourney_ray.core.state import Attempt, Match, Round, Task, Tournament, Training
from tourney_ray.core.tasks import slots
from tourney_ray.errors import IllegalTransition

K = TypeVar("K")
V = TypeVar("V")


def progress(t: Tournament, fact: e.Fact, at: datetime) -> Tournament:  # noqa: C901, PLR0911, PLR0912 - a line per fact
    """The tournament after a fact about its rounds; raises `IllegalTransition` when it cannot follow."""
    match fact:
        case e.RoundDrawn():
            return _drawn(t, fact, at)
        case e.TaskPrepared():
            return _prepared(t, fact)
        case e.TaskPreparationFailed():
            return _preparation_failed(t, fact, at)
        case e.RoundActivated():
            return _round_activated(t, fact)
        case e.AttemptStarted():
            return _attempt_started(t, fact, at)
        case e.AttemptRunning():
            return _attempt_running(t, fact, at)
        case e.AttemptEnded():
            return _attempt_ended(t, fact, at)
        case e.CheckpointEvaluated():
            return _evaluated(t, fact)
        case e.EvaluationFailed():
            return _evaluation_failed(t, fact, at)
        case e.EvaluationRepeated():
            return _evaluation_repeated(t, fact)
        case e.TaskDecided():
            return _task_decided(t, fact)
        case e.MatchDecided():
            return _match_decided(t, fact)
        case e.RoundCompleted():
            return _round_completed(t, fact)
        case _:
            raise IllegalTransition(f"{fact.kind} is not a fact of one tournament")


# --- rounds


def _drawn(t: Tournament, fact: e.RoundDrawn, at: datetime) -> Tournament:
    need(t.status is TournamentStatus.ACTIVE, fact, f"the tournament is {t.status}")
    need(t.round is None or t.round.status is RoundStatus.COMPLETED, fact, "the round before is not completed")
    need(fact.number == len(t.rounds) + 1, fact, f"round {len(t.rounds) + 1} is due")
    drawn = Round(
        round_id=fact.round_id,
        number=fact.number,
        round_type=fact.round_type,
        matches={m.match_id: Match(m.match_id, m.entrants) for m in fact.matches},
        byes=fact.byes,
        drawn_at=at,
    )
    return replace(t, rounds=(*t.rounds, drawn))


def _prepared(t: Tournament, fact: e.TaskPrepared) -> Tournament:
    match = _pending_match(t, fact)
    need(fact.task_id not in t.tasks, fact, "there is a task of that id")
    task = Task(
        task_id=fact.task_id,
        match_id=fact.match_id,
        slot=fact.slot,
        preparation=match.preparations.get(fact.slot, 0) + 1,
        task_type=fact.task_type,
        hours=fact.hours,
        data=fact.data,
        gpu_requirement=get_tournament_gpu_requirement(fact.task_type, fact.data.model_params, t.rules),
    )
    t = _put_match(t, replace(match, tasks=_set(match.tasks, fact.slot, fact.task_id)))
    return replace(t, tasks=_set(t.tasks, fact.task_id, task))


def _preparation_failed(t: Tournament, fact: e.TaskPreparationFailed, at: datetime) -> Tournament:
    match = _pending_match(t, fact)
    failures = match.preparations.get(fact.slot, 0) + 1
    due = at + timedelta(seconds=back_off_s(failures, t.rules))
    preparations, not_before = _set(match.preparations, fact.slot, failures), _set(match.not_before, fact.slot, due)
    trouble = _set(match.trouble, fact.slot, fact.reason)
    return _put_match(t, replace(match, preparations=preparations, not_before=not_before, trouble=trouble))


def _round_activated(t: Tournament, fact: e.RoundActivated) -> Tournament:
    drawn = _round(t, fact)
    need(drawn.round_id == fact.round_id and drawn.status is RoundStatus.PENDING, fact, "the round is not pending")
    by_task: dict[str, dict[str, Training]] = {}
    for a in fact.assignments:
        by_task.setdefault(a.task_id, {})[a.hotkey] = Training(a.task_id, a.hotkey, a.expected_repo_name)
    for task_id, trainings in by_task.items():
        t = _put_task(t, replace(_task(t, task_id, fact), trainings=trainings))
    return _put_round(t, replace(drawn, status=RoundStatus.ACTIVE))


def _round_completed(t: Tournament, fact: e.RoundCompleted) -> Tournament:
    active = _round(t, fact)
    need(active.round_id == fact.round_id and active.status is RoundStatus.ACTIVE, fact, "the round is not active")
    need(all(m.decided for m in active.matches.values()), fact, "a match is not decided")
    return _put_round(t, replace(active, status=RoundStatus.COMPLETED, advancing=fact.advancing))


# --- trainings


def _attempt_started(t: Tournament, fact: e.AttemptStarted, at: datetime) -> Tournament:
    training = _training(t, fact)
    need(training.status is TrainingStatus.PENDING, fact, f"the training is {training.status}")
    need(fact.epoch == len(training.attempts) + 1, fact, f"epoch {len(training.attempts) + 1} is due")
    attempt = Attempt(fact.attempt_id, fact.epoch, fact.node, fact.gpu_type, fact.gpus, started_at=at)
    attempts = (*training.attempts, attempt)
    return _put_training(t, replace(training, status=TrainingStatus.TRAINING, attempts=attempts))


def _attempt_running(t: Tournament, fact: e.AttemptRunning, at: datetime) -> Tournament:
    training, attempt = _live_attempt(t, fact)
    return _put_training(t, _with_attempt(training, replace(attempt, running_at=attempt.running_at or at)))


def _attempt_ended(t: Tournament, fact: e.AttemptEnded, at: datetime) -> Tournament:
    training, attempt = _live_attempt(t, fact)
    failed = isinstance(fact.outcome, Failed)
    status = AttemptStatus.FAILURE if failed else AttemptStatus.SUCCESS
    training = _with_attempt(training, replace(attempt, status=status, ended_at=at, outcome=fact.outcome))
    if not isinstance(fact.outcome, Failed):
        return _put_training(t, replace(training, status=TrainingStatus.SUCCESS))
    return _put_training(t, _after_failure(training, fact.outcome, at, t))


def _after_failure(training: Training, failed: Failed, at: datetime, t: Tournament) -> Training:
    counts = training.miner_failures, training.platform_failures
    step = after_failure(failed.blame, failed.reason, *counts, t.rules)
    if isinstance(step, GiveUp):
        return replace(training, status=TrainingStatus.FAILURE)
    not_before = at + timedelta(seconds=step.pause_s) if step.pause_s else None
    return replace(training, status=TrainingStatus.PENDING, not_before=not_before, trouble=failed.reason)


def _evaluated(t: Tournament, fact: e.CheckpointEvaluated) -> Tournament:
    training = _evaluating(t, fact)
    if fact.result.refused:
        return _put_training(t, _after_refusal(training, fact.result, t))
    return _put_training(t, replace(training, evaluated=fact.result, not_before=None))


def _after_refusal(training: Training, result: Evaluated, t: Tournament) -> Training:
    """An invalid output is a failed attempt of the miner's (RULES §6); the last one's refusal stands."""
    training = replace(training, refusals=training.refusals + 1, not_before=None, trouble=result.refused)
    if training.miner_failures < t.rules.max_training_attempts:
        return replace(training, status=TrainingStatus.PENDING)
    return replace(training, status=TrainingStatus.FAILURE, evaluated=result)


def _evaluation_failed(t: Tournament, fact: e.EvaluationFailed, at: datetime) -> Tournament:
    training = _evaluating(t, fact)
    failures = training.evaluation_failures + 1
    pause = timedelta(seconds=back_off_s(failures, t.rules))
    return _put_training(t, replace(training, evaluation_failures=failures, not_before=at + pause, trouble=fact.reason))


def _evaluation_repeated(t: Tournament, fact: e.EvaluationRepeated) -> Tournament:
    task = _task(t, fact.task_id, fact)
    need(task.decided is None and fact.number == task.evaluation + 1, fact, "the task is not up for that evaluation")
    trainings = {h: _not_evaluated(training) for h, training in task.trainings.items()}
    return _put_task(t, replace(task, evaluation=fact.number, trainings=trainings))


def _not_evaluated(training: Training) -> Training:
    """A finished training whose checkpoint is to be evaluated again; a failed one stays as it is."""
    return replace(training, evaluated=None) if training.status is TrainingStatus.SUCCESS else training


# --- verdicts


def _task_decided(t: Tournament, fact: e.TaskDecided) -> Tournament:
    task = _task(t, fact.task_id, fact)
    need(task.decided is None, fact, "the task was decided before")
    need(all(tr.terminal for tr in task.trainings.values()), fact, "a training is not terminal")
    return _put_task(t, replace(task, decided=fact))


def _match_decided(t: Tournament, fact: e.MatchDecided) -> Tournament:
    match = _match(t, fact.match_id, fact)
    need(match.decided is None, fact, "the match was decided before")
    need(all(t.tasks[task_id].decided for task_id in match.tasks.values()), fact, "a task is not decided")
    return _put_match(t, replace(match, decided=fact))


# --- finding and replacing


def need(condition: bool, fact: e.Fact, why: str) -> None:
    """Raise `IllegalTransition` with that reason unless the condition holds."""
    if not condition:
        raise IllegalTransition(f"{fact.kind} cannot follow: {why}")


def _set(mapping: dict[K, V], key: K, value: V) -> dict[K, V]:
    return {**mapping, key: value}


def _round(t: Tournament, fact: e.Fact) -> Round:
    if t.round is None:
        raise IllegalTransition(f"{fact.kind} cannot follow: no round is drawn")
    return t.round


def _put_round(t: Tournament, changed: Round) -> Tournament:
    return replace(t, rounds=(*t.rounds[:-1], changed))


def _match(t: Tournament, match_id: str, fact: e.Fact) -> Match:
    matches = _round(t, fact).matches
    need(match_id in matches, fact, f"{match_id} is no match of the latest round")
    return matches[match_id]


def _pending_match(t: Tournament, fact: e.TaskPrepared | e.TaskPreparationFailed) -> Match:
    match = _match(t, fact.match_id, fact)
    wanted = slots(t.tournament_type, _round(t, fact).round_type, t.rules)
    need(fact.slot < wanted, fact, f"a match of this round has {wanted} slots")
    need(fact.slot not in match.tasks, fact, f"slot {fact.slot} of {fact.match_id} has its task")
    return match


def _put_match(t: Tournament, match: Match) -> Tournament:
    last = t.rounds[-1]
    return _put_round(t, replace(last, matches=_set(last.matches, match.match_id, match)))


def _task(t: Tournament, task_id: str, fact: e.Fact) -> Task:
    need(task_id in t.tasks, fact, f"there is no task {task_id}")
    return t.tasks[task_id]


def _put_task(t: Tournament, task: Task) -> Tournament:
    return replace(t, tasks=_set(t.tasks, task.task_id, task))


TrainingFact = e.AttemptStarted | e.AttemptRunning | e.AttemptEnded | e.CheckpointEvaluated | e.EvaluationFailed


def _training(t: Tournament, fact: TrainingFact) -> Training:
    task = _task(t, fact.task_id, fact)
    need(fact.hotkey in task.trainings, fact, f"{fact.hotkey} does not train {fact.task_id}")
    return task.trainings[fact.hotkey]


def _live_attempt(t: Tournament, fact: e.AttemptRunning | e.AttemptEnded) -> tuple[Training, Attempt]:
    training = _training(t, fact)
    attempt = training.attempt
    if attempt is None or attempt.attempt_id != fact.attempt_id or attempt.status is not AttemptStatus.TRAINING:
        raise IllegalTransition(f"{fact.kind} cannot follow: {fact.attempt_id} does not hold the lease")
    return training, attempt


def _evaluating(t: Tournament, fact: e.CheckpointEvaluated | e.EvaluationFailed) -> Training:
    training = _training(t, fact)
    need(training.status is TrainingStatus.SUCCESS, fact, f"the training is {training.status}")
    need(training.evaluated is None, fact, "it was evaluated before")
    need(fact.number == t.tasks[fact.task_id].evaluation, fact, "that is another evaluation of the task")
    return training


def _with_attempt(training: Training, attempt: Attempt) -> Training:
    return replace(training, attempts=(*training.attempts[:-1], attempt))


def _put_training(t: Tournament, training: Training) -> Tournament:
    task = t.tasks[training.task_id]
    return _put_task(t, replace(task, trainings=_set(task.trainings, training.hotkey, training)))
