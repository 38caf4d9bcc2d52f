"""How the task of one slot comes about (RULES §4): one from the history, a replacement, or a new one.

Everything follows from the journal and the secret seed, so that it can be recomputed once the seed is revealed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from tourney_ray.core.commands import PrepareTask
from tourney_ray.core.events import TaskDecided, TaskPrepared
from tourney_ray.core.history import PastTask, draw_history, eligible_history
from tourney_ray.core.ids import TaskPlace
from tourney_ray.core.models import RoundType, TaskData, TaskOrigin, TaskType, TournamentType
from tourney_ray.core.state import Round, State, Task, Tournament
from tourney_ray.core.tasks import TaskRequest, choose_task, replacement_range_b, training_hours


def prepared_from_history(state: State, command: PrepareTask, secret_seed: str) -> TaskPrepared | None:
    """The task as a repetition of a past one; None where a new one is to be made."""
    t = state.tournaments[command.tournament_id]
    past = historical_task(state, t, command.round_type, command.place, secret_seed)
    if past is None:
        return None
    task = next(o.tasks[past.task_id] for o in _before(state, t) if past.task_id in o.tasks)
    repeated = task_prepared(t, command, task.task_type, task.data, secret_seed)
    return repeated.model_copy(update={"historical": past.task_id, "best_historical": past.best_score})


def task_request(t: Tournament, command: PrepareTask, secret_seed: str) -> TaskRequest:
    """What a task source is asked for: of a replacement, a model of about the size that could not be had."""
    return requested(t, command.round_type, command.place, command.replaces_params, secret_seed)


def requested(
    t: Tournament, round_type: RoundType, place: TaskPlace, replaces_params: int | None, secret_seed: str
) -> TaskRequest:
    """The new task of that place."""
    chosen = choose_task(secret_seed, t.tournament_type, round_type, place, t.rules)
    if replaces_params is None:
        return chosen
    return TaskRequest(chosen.task_type, replacement_range_b(replaces_params, t.rules), chosen.seed)


def task_prepared(
    t: Tournament, command: PrepareTask, task_type: TaskType, data: TaskData, secret_seed: str
) -> TaskPrepared:
    """The fact that the task has its data, with the hours that are drawn for it."""
    kind, rows = t.tournament_type, data.dataset_rows
    return TaskPrepared(
        tournament_id=t.tournament_id,
        task_id=command.task_id,
        match_id=command.match_id,
        slot=command.slot,
        task_type=task_type,
        hours=training_hours(secret_seed, kind, command.round_type, command.place, rows, t.rules),
        data=data,
    )


def historical_task(
    state: State, t: Tournament, round_type: RoundType, place: TaskPlace, secret_seed: str
) -> PastTask | None:
    """The past task that the first preparation of a slot of a text boss round repeats, if the history has one.

    Each slot draws from what the slots before it have left, so that it does not matter which is prepared first.
    """
    text_boss = round_type is RoundType.BOSS and t.tournament_type is TournamentType.TEXT
    if not text_boss or place.preparation > 1:
        return None
    past, chosen = list(past_tasks(state, t)), set[str]()
    drawn: PastTask | None = None
    for slot in range(place.slot + 1):
        here = TaskPlace(place.match_id, slot, 1)
        drawn = draw_history(secret_seed, here, eligible_history(past, t.rules.boss_tasks[slot], chosen, t.rules))
        chosen |= {drawn.task_id} if drawn else set()
    return drawn


def past_tasks(state: State, t: Tournament) -> Iterator[PastTask]:
    """The decided tasks of the tournaments of its type that were over before it began."""
    for before in _before(state, t):
        for drawn in before.rounds:
            yield from (_past(task, task.decided) for task in _tasks(before, drawn) if task.decided)


def _before(state: State, t: Tournament) -> list[Tournament]:
    earlier = takewhile(lambda other: other.tournament_id != t.tournament_id, state.tournaments.values())
    return [other for other in earlier if other.tournament_type is t.tournament_type]


def _tasks(t: Tournament, drawn: Round) -> Iterator[Task]:
    return (t.tasks[task_id] for match in drawn.matches.values() for task_id in match.tasks.values())


def _past(task: Task, decided: TaskDecided) -> PastTask:
    return PastTask(
        task_id=task.task_id,
        task_type=task.task_type,
        origin=TaskOrigin.TOURNAMENT,
        created_at=task.prepared_at,
        status=decided.status,
        scores=tuple(r.value for r in decided.ranking if r.valid),
    )
