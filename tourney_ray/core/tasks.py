"""Which tasks a round has and who trains them (RULES §4). The secret seed chooses, so nobody can prepare for a task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tourney_ray.core.draw import position
from tourney_ray.core.events import Assignment
from tourney_ray.core.ids import TaskPlace, expected_repo_names
from tourney_ray.core.models import RoundType, TaskOrigin, TaskType, TournamentType
from tourney_ray.core.rules import Range, Rules


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """What a task source is asked for."""

    task_type: TaskType
    model_range_b: Range
    seed: bytes
    """32 bytes for the choice of model, data and split."""


def slots(tournament_type: TournamentType, round_type: RoundType, rules: Rules) -> int:
    """How many tasks each match of such a round has."""
    if round_type is not RoundType.BOSS:
        return 1
    return rules.image_boss_tasks if tournament_type is TournamentType.IMAGE else len(rules.boss_tasks)


def choose_task(
    secret_seed: str,
    tournament_type: TournamentType,
    round_type: RoundType,
    place: TaskPlace,
    rules: Rules,
) -> TaskRequest:
    """The task at that place. Its type follows from match and slot; its seed from the try at preparing it, too."""
    task_type = _task_type(secret_seed, tournament_type, round_type, place, rules)
    u = position(secret_seed, 0, "model-size", f"{place.match}/{place.slot}")
    return TaskRequest(task_type, model_range_b(round_type, rules, u), task_seed(secret_seed, "task", place))


def model_range_b(round_type: RoundType, rules: Rules, u: float) -> Range:
    """Smallest and largest model of a text task in such a round, 10⁹ parameters, both ends included.

    `u` in [0, 1] decides in the boss round: below `boss_big_model_share` its own range, else the knock-out's.
    """
    if round_type is RoundType.GROUP:
        return rules.group_model_range_b
    share = rules.boss_big_model_share
    big = round_type is RoundType.BOSS and (u < share or share == 1.0)
    return rules.boss_model_range_b if big else rules.knockout_model_range_b


def replacement_range_b(model_params: int, rules: Rules) -> Range:
    """Sizes of the model in place of one of so many parameters whose task could not be prepared, 10⁹ parameters."""
    low, high = rules.replacement_size
    return low * model_params / 1e9, high * model_params / 1e9


def task_seed(secret_seed: str, purpose: str, place: TaskPlace) -> bytes:
    """32 bytes for one purpose of one task: SHA-256 of `{secret hex}|{purpose}|{place}`."""
    return hashlib.sha256(f"{secret_seed}|{purpose}|{place}".encode()).digest()


def training_hours(
    secret_seed: str, tournament_type: TournamentType, round_type: RoundType, place: TaskPlace, rows: int, rules: Rules
) -> float:
    """Time limit of a task, hours: fixed in a text group, else a whole number drawn from the data's band, scaled."""
    if tournament_type is TournamentType.IMAGE:
        low, high = rules.image_hours
    elif round_type is RoundType.GROUP:
        low = high = rules.group_hours
    else:
        low, high = next((b.hours for b in rules.text_hours if rows <= b.rows), rules.text_hours[-1].hours)
    u = position(secret_seed, 0, "hours", str(place))
    return min(high, low + int(u * (high - low + 1))) * rules.hours_scale


def assign_nodes_to_tournament_tasks(
    tournament_id: str, tasks: Iterable[tuple[str, Sequence[str]]]
) -> tuple[Assignment, ...]:
    """The assignments of a round: every entrant of a match to each of its tasks, with the name of its output.

    `tasks` are (task id, hotkeys of its match).
    """
    return tuple(
        Assignment(task_id=task_id, hotkey=hotkey, expected_repo_name=name)
        for task_id, hotkeys in tasks
        for hotkey, name in expected_repo_names(tournament_id, task_id, hotkeys).items()
    )


def mostly_failed(failed: int, trainings: int, rules: Rules) -> bool:
    """Whether that many failures among so many trainings are more than a task can stand on (RULES §6)."""
    return failed > rules.repeat_above_share * trainings


def queue_key(origin: TaskOrigin, created_at: datetime, rules: Rules) -> tuple[int, datetime]:
    """Sorts what waits for GPUs (RULES §6): by priority, within one the older task first."""
    return rules.priority[origin], created_at


def _task_type(
    secret_seed: str, tournament_type: TournamentType, round_type: RoundType, place: TaskPlace, rules: Rules
) -> TaskType:
    if tournament_type is TournamentType.IMAGE:
        return TaskType.IMAGE
    if round_type is RoundType.GROUP:
        return rules.group_task
    if round_type is RoundType.BOSS:
        return rules.boss_tasks[place.slot]
    return draw_text_task_type(position(secret_seed, 0, "task-type", place.match), rules)


def draw_text_task_type(u: float, rules: Rules) -> TaskType:
    """The knock-out task type at `u` in [0, 1]: below 0.5 Instruct, below 0.6875 DPO, else GRPO in `spec`."""
    bound = 0.0
    shares = [(task_type, share) for task_type, share in rules.knockout_task_shares.items() if share > 0]
    for task_type, share in shares:
        bound += share
        if u < bound:
            return task_type
    return shares[-1][0]
