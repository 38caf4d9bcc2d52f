"""What a journal takes as given, as far as something else determines it: ids, sizes, terms, means, and, once the secret
seed is revealed, the choice of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

from tourney_ray.core import events as e, ids
from tourney_ray.core.chain import Entry
from tourney_ray.core.evaluations import is_mean, mean_of
from tourney_ray.core.events import Fact
from tourney_ray.core.models import RoundType, TaskType
from tourney_ray.core.preparation import historical_task, requested
from tourney_ray.core.rules import Range
from tourney_ray.core.state import Match, Round, State, Task, Tournament
from tourney_ray.core.tasks import model_range_b, replacement_range_b, slots, training_hours
from tourney_ray.core.trainings import terms_of
from tourney_ray.report.differences import FLOAT_TOLERANCE, close, difference, first_difference


def check_given(state: State, entry: Entry, fact: Fact) -> None:
    """Raise `AuditDifference` where an outcome or an intent, recorded in `state`, cannot be as it stands."""
    match fact:
        case e.TaskPrepared() | e.TaskPreparationFailed():
            _check_task_id(state, entry, fact)
        case e.AttemptStarted() | e.StagingFailed():
            _check_attempt(state, entry, fact)
        case e.CheckpointEvaluated():
            _check_mean(entry, fact)
        case _:
            pass


def _check_task_id(state: State, entry: Entry, fact: e.TaskPrepared | e.TaskPreparationFailed) -> None:
    t = state.tournaments.get(fact.tournament_id)
    drawn = t.round if t else None
    match = drawn.matches.get(fact.match_id) if drawn else None
    if t is None or drawn is None or match is None:
        return  # cannot follow, as the replay will say
    count = slots(t.tournament_type, drawn.round_type, t.rules)
    if fact.slot >= count:
        raise difference(entry, "slot", fact.slot, f"0 to {count - 1}")
    if isinstance(fact, e.TaskPrepared):
        _check_size(t, drawn.round_type, match, entry, fact)
    due = ids.task_id(ids.TaskPlace(fact.match_id, fact.slot, match.preparations.get(fact.slot, 0) + 1))
    if fact.task_id != due:
        raise difference(entry, "task_id", fact.task_id, due)


def _check_size(t: Tournament, round_type: RoundType, match: Match, entry: Entry, fact: e.TaskPrepared) -> None:
    """As far as it is known while the seed is secret: of a new task, either of the ranges that may be drawn."""
    replaced = match.replaces.get(fact.slot)
    if fact.historical or fact.task_type is TaskType.IMAGE:
        return
    either = sorted({model_range_b(round_type, t.rules, u) for u in (0.0, 1.0)})
    ranges = either if replaced is None else [replacement_range_b(replaced, t.rules)]
    _check_within(entry, "data", fact.data.model_params, ranges)


def _check_attempt(state: State, entry: Entry, fact: e.AttemptStarted | e.StagingFailed) -> None:
    due = ids.attempt_id(fact.task_id, fact.hotkey, fact.epoch)
    if fact.attempt_id != due:
        raise difference(entry, "attempt_id", fact.attempt_id, due)
    t = state.tournaments.get(fact.tournament_id)
    task = t.tasks.get(fact.task_id) if t else None
    if t is None or task is None:
        return  # cannot follow, as the replay will say
    found = first_difference("terms", fact.terms.model_dump(), terms_of(task, t.rules).model_dump())
    if found:
        raise difference(entry, *found)


def _check_mean(entry: Entry, fact: e.CheckpointEvaluated) -> None:
    rows, value = fact.result.per_row, fact.result.value
    if rows and not is_mean(value, rows):
        raise difference(entry, "result.value", value, f"{mean_of(rows)!r}, the mean of per_row")


def check_choices(state: State, tournament_id: str, entry: Entry) -> None:
    """Raise `AuditDifference` unless all tasks of a tournament are those that its secret seed chose."""
    t = state.tournaments[tournament_id]
    for drawn in t.rounds:
        for match in drawn.matches.values():
            for task_id in match.tasks.values():
                _check_choice(state, t, drawn, match, t.tasks[task_id], entry)


def _check_choice(state: State, t: Tournament, drawn: Round, match: Match, task: Task, entry: Entry) -> None:
    kind, seed, where = t.tournament_type, t.secret_seed, f"task {task.task_id}"
    due = requested(t, drawn.round_type, task.place, match.replaces.get(task.slot), seed)
    if task.task_type is not due.task_type:
        raise difference(entry, f"{where}.task_type", task.task_type.value, due.task_type.value)
    hours = training_hours(seed, kind, drawn.round_type, task.place, task.data.dataset_rows, t.rules)
    if not close(task.hours, hours, FLOAT_TOLERANCE):
        raise difference(entry, f"{where}.hours", task.hours, hours)
    past = historical_task(state, t, drawn.round_type, task.place, seed)
    found = first_difference("", _history(task), (past.task_id, past.best_score) if past else (None, None))
    if found:
        raise difference(entry, f"{where}.historical", found[1], found[2])
    if past is None and task.task_type is not TaskType.IMAGE:
        _check_within(entry, where, task.data.model_params, [due.model_range_b])


def _history(task: Task) -> tuple[str | None, float | None]:
    return task.historical, task.best_historical


def _check_within(entry: Entry, where: str, model_params: int, ranges: Sequence[Range]) -> None:
    if not any(low <= model_params / 1e9 <= high for low, high in ranges):
        due = " or ".join(f"{low:g} to {high:g}" for low, high in ranges)
        raise difference(entry, f"{where}.model_params", model_params, f"{due} × 10⁹")
