"""How facts about rounds, tasks, trainings and verdicts change their tournament; the second half of `evolve`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeVar

from tourney_ray.core import events as e
from tourney_ray.core.models import RoundStatus, TournamentStatus
from tourney_ray.core.replacing import replace
from tourney_ray.core.resources import get_tournament_gpu_requirement
from tourney_ray.core.retry import back_off_s
from tourney_ray.core.state import Match, Round, Task, Tournament, Training
from tourney_ray.core.tasks import slots
from tourney_ray.core.trainings import TrainingFact, begun_anew, change_training, need, not_evaluated
from tourney_ray.errors import IllegalTransition

K = TypeVar("K")
V = TypeVar("V")


def progress(t: Tournament, fact: e.Fact, at: datetime) -> Tournament:  # noqa: C901, PLR0911 - a line per fact
    """The tournament after a fact about its rounds; raises `IllegalTransition` when it cannot follow."""
    need(t.status is TournamentStatus.ACTIVE, fact, f"the tournament is {t.status}")
    match fact:
        case e.RoundDrawn():
            return _drawn(t, fact, at)
        case e.TaskPrepared():
            return _prepared(t, fact, at)
        case e.TaskPreparationFailed():
            return _preparation_failed(t, fact, at)
        case e.RoundActivated():
            return _round_activated(t, fact)
        case e.ImageBuilt():
            return _image_built(t, fact)
        case e.EvaluationRepeated():
            return _evaluation_repeated(t, fact)
        case e.TaskRepeated():
            return _task_repeated(t, fact)
        case e.TaskDecided():
            return _task_decided(t, fact)
        case e.MatchDecided():
            return _match_decided(t, fact)
        case e.RoundCompleted():
            return _round_completed(t, fact)
        case _:
            return _training_changed(t, fact, at)


# --- rounds


def _drawn(t: Tournament, fact: e.RoundDrawn, at: datetime) -> Tournament:
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


def _prepared(t: Tournament, fact: e.TaskPrepared, at: datetime) -> Tournament:
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
        prepared_at=at,
        gpu_requirement=get_tournament_gpu_requirement(fact.task_type, fact.data.model_params, t.rules),
        historical=fact.historical,
        best_historical=fact.best_historical,
    )
    t = _put_match(t, replace(match, tasks=_set(match.tasks, fact.slot, fact.task_id)))
    return replace(t, tasks=_set(t.tasks, fact.task_id, task))


def _preparation_failed(t: Tournament, fact: e.TaskPreparationFailed, at: datetime) -> Tournament:
    match = _pending_match(t, fact)
    failures = match.preparations.get(fact.slot, 0) + 1
    due = at + timedelta(seconds=back_off_s(failures, t.rules))
    preparations, not_before = _set(match.preparations, fact.slot, failures), _set(match.not_before, fact.slot, due)
    trouble = _set(match.trouble, fact.slot, fact.reason)
    match = replace(match, preparations=preparations, not_before=not_before, trouble=trouble)
    if fact.model_params:
        match = replace(match, replaces=_set(match.replaces, fact.slot, fact.model_params))
    return _put_match(t, match)


def _round_activated(t: Tournament, fact: e.RoundActivated) -> Tournament:
    drawn = _round(t, fact)
    need(drawn.round_id == fact.round_id and drawn.status is RoundStatus.PENDING, fact, "the round is not pending")
    by_task: dict[str, dict[str, Training]] = {}
    for a in fact.assignments:
        names = t.tournament_id, a.task_id, a.hotkey, a.expected_repo_name, f"{a.task_id}.{a.hotkey}"
        by_task.setdefault(a.task_id, {})[a.hotkey] = Training(*names)
    for task_id, trainings in by_task.items():
        t = _put_task(t, replace(_task(t, task_id, fact), trainings=trainings))
    return _put_round(t, replace(drawn, status=RoundStatus.ACTIVE))


def _round_completed(t: Tournament, fact: e.RoundCompleted) -> Tournament:
    active = _round(t, fact)
    need(active.round_id == fact.round_id and active.status is RoundStatus.ACTIVE, fact, "the round is not active")
    need(all(m.decided for m in active.matches.values()), fact, "a match is not decided")
    return _put_round(t, replace(active, status=RoundStatus.COMPLETED, advancing=fact.advancing))


# --- trainings


def _image_built(t: Tournament, fact: e.ImageBuilt) -> Tournament:
    defends = t.champion is not None and fact.hotkey == t.champion.hotkey
    need(defends or fact.hotkey in t.entrants, fact, f"{fact.hotkey} has not entered")
    tree = t.contestant(fact.hotkey).tree_hash
    need(fact.tree_hash == tree, fact, f"{fact.hotkey} entered with tree {tree[:12]}")
    return replace(t, images=_set(t.images, fact.hotkey, fact))


def _training_changed(t: Tournament, fact: e.Fact, at: datetime) -> Tournament:
    if not isinstance(fact, TrainingFact):
        raise IllegalTransition(f"{fact.kind} is not a fact of one tournament")
    task = _task(t, fact.task_id, fact)
    need(fact.hotkey in task.trainings, fact, f"{fact.hotkey} does not train {fact.task_id}")
    changed = change_training(t, task, fact, at)
    return _put_task(t, replace(task, trainings=_set(task.trainings, fact.hotkey, changed)))


def _evaluation_repeated(t: Tournament, fact: e.EvaluationRepeated) -> Tournament:
    task = _task(t, fact.task_id, fact)
    need(task.decided is None and fact.number == task.evaluation + 1, fact, "the task is not up for that evaluation")
    trainings = {h: not_evaluated(training) for h, training in task.trainings.items()}
    return _put_task(t, replace(task, evaluation=fact.number, trainings=trainings))


def _task_repeated(t: Tournament, fact: e.TaskRepeated) -> Tournament:
    task = _task(t, fact.task_id, fact)
    need(task.decided is None and fact.number == task.run + 1, fact, "the task is not up for that run")
    need(all(tr.terminal for tr in task.trainings.values()), fact, "a training is not terminal")
    trainings = {h: begun_anew(training) for h, training in task.trainings.items()}
    return _put_task(t, replace(task, run=fact.number, trainings=trainings))


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
