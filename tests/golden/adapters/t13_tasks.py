"""13, 14b, 16, 17: tasks and their time limits, assignments, names, and tasks of the past (RULES §1, §4, §10)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tests.golden.harness import Adapter, Fixed
from tourney_ray.core import ids
from tourney_ray.core.history import PastTask, draw_history, eligible_history
from tourney_ray.core.models import RoundType, TaskOrigin, TaskStatus, TaskType, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.tasks import (
    assign_nodes_to_tournament_tasks,
    draw_text_task_type,
    model_range_b,
    replacement_range_b,
    slots,
    training_hours,
)

RULES, GOD = Rules(), Rules.preset("god-2025-12")
SECRET = "22" * 32
TEXT = TournamentType.TEXT
PLACES = [ids.TaskPlace(f"round_001_pair_{i:03d}", 0, 1) for i in range(100)]
TOURNAMENT = "tourn_0123456789abcdef_20251101"
"""Whose trees 14b publishes."""


# --- 13


def hours(given: Any) -> Any:
    rows = given["num_rows"]
    drawn = {training_hours(SECRET, TEXT, RoundType.KNOCKOUT, place, rows, RULES) for place in PLACES}
    return {"possible_hours": sorted(drawn)}


def round_plan(given: Any) -> Any:
    """Tasks of a round, with recorded draws as positions."""
    kind, group = TournamentType(given["type"]), given["round"] == "group"
    shape = RoundType.GROUP if group else RoundType.BOSS if given["final"] else RoundType.KNOCKOUT
    matches = [_match(group, i) for i in range(1, given["groups" if group else "pairs"] + 1)]
    count = slots(kind, shape, GOD)
    draws: Sequence[float] = given.get("draws") or [0.0] * (count * len(matches))
    tasks = [_task(kind, shape, slot, draws[i * count + slot]) for i in range(len(matches)) for slot in range(count)]
    return {"attached_to": [m for m in matches for _ in range(count)], "count": len(tasks), "tasks": tasks}


def _match(group: bool, number: int) -> list[str | None]:
    return [ids.group_id("r", number), None] if group else [None, ids.pair_id("r", number)]


def _task(kind: TournamentType, shape: RoundType, slot: int, u: float) -> dict[str, Any]:
    if kind is TournamentType.IMAGE:
        return {"model_range_b": [], "task_type": TaskType.IMAGE.value}
    task: dict[str, Any] = {"model_range_b": list(model_range_b(shape, GOD, u))}
    if shape is RoundType.GROUP:
        return {**task, "hours_to_complete": GOD.group_hours, "task_type": GOD.group_task.value}
    chosen = GOD.boss_tasks[slot] if shape is RoundType.BOSS else draw_text_task_type(u, GOD)
    return {**task, "task_type": chosen.value}


def no_pairs_no_tasks(given: Any, recorded: Any) -> Fixed | None:
    return Fixed("§3", {"attached_to": [], "count": 0, "tasks": []}) if given.get("pairs") == 0 else None


def replacement(given: Any) -> Any:
    low, high = replacement_range_b(given["model_params_count"], RULES)
    return {"model_range_b": [low, high], "new_task_type": TaskType(given["task_type"]).value}


def same_type_and_size(given: Any, recorded: Any) -> Fixed:
    """The type stays, Chat too; 0.8 to 1.2 times the size at every size, where the implementation truncates."""
    size = given["model_params_count"] / 1e9
    return Fixed("§4", {"model_range_b": [0.8 * size, 1.2 * size], "new_task_type": given["task_type"]})


# --- 14b, 16


def name(given: Any) -> Any:
    kind = TournamentType(given["tournament_type"].removeprefix("enum:"))
    return ids.publication_name(kind, TOURNAMENT, given["position"])


def the_enums_value(given: Any, recorded: Any) -> Fixed:
    kind = given["tournament_type"].split(":")[-1]
    return Fixed("§10", f"god-{kind}-tourn-0123456789abcdef-20251101-position-{given['position']}")


def assigned(given: Any) -> Any:
    """Assignments that are missing yet: each task to the entrants of its match."""
    group = given["kind"] == "group"
    match_id = ids.group_id if group else ids.pair_id
    matches = {match_id(given["round_id"], i): entrants for i, entrants in enumerate(given["structure"], start=1)}
    tasks = [(t["task_id"], matches.get(t["group_id" if group else "pair_id"], [])) for t in given["tasks"]]
    tournament_id = given["round_id"][: given["round_id"].index("_round_")]
    return [
        [a.task_id, a.hotkey, a.expected_repo_name]
        for a in assign_nodes_to_tournament_tasks(tournament_id, tasks)
        if a.hotkey not in given["already_assigned"].get(a.task_id, ())
    ]


def entrants_of_the_match(given: Any, recorded: Any) -> Fixed | None:
    """Who left the registry stays in; nobody but the entrants of a match trains its tasks."""
    playing = {hotkey for match in given["structure"] for hotkey in match}
    if playing <= set(given["known_nodes"]) and {hotkey for _, hotkey, _ in recorded} <= playing:
        return None
    prefix = f"tournament-{given['round_id'].split('_round_')[0]}"
    kind, rows = given["kind"], list[list[str]]()
    for task in given["tasks"]:
        number = int((task["pair_id"] or task["group_id"]).rsplit("_", 1)[-1])
        if task["pair_id" if kind == "knockout" else "group_id"] and number <= len(given["structure"]):
            entrants = given["structure"][number - 1]
            rows += [[task["task_id"], h, f"{prefix}-{task['task_id']}-{h[:8]}"] for h in entrants]
    return Fixed("§3", rows)


# --- 17


def history(given: Any) -> Any:
    """Numbers of the past tasks that are eligible, and whether there was none to choose."""
    rules = Rules(
        history_min_scores=given["min_scores"], history_from=_day(given["start"]), history_until=_day(given["end"])
    )
    chosen = {str(number) for number in given["exclude"]}
    past = [_past(task) for task in given["tasks"]]
    eligible = eligible_history(past, TaskType(given["task_type"]), chosen, rules)
    drawn = draw_history(SECRET, PLACES[0], eligible)
    return {"eligible": [int(task.task_id) for task in eligible], "none_returned": drawn is None}


def _past(task: Any) -> PastTask:
    return PastTask(
        task_id=str(task["n"]),
        task_type=TaskType(task["type"]),
        origin=TaskOrigin.ORGANIC if task["organic"] else TaskOrigin.TOURNAMENT,
        created_at=_day(task["created"]),
        status=TaskStatus.SUCCESS if task["status"] == "success" else TaskStatus.FAILURE,
        scores=tuple(None if loss is None or math.isnan(loss) else loss for loss in task["losses"]),
    )


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


ADAPTERS = {
    "13a_training_hours": Adapter(hours),
    "13b_text_task_draw": Adapter(lambda given: draw_text_task_type(given["random"], GOD).value),
    "13c_round_task_plan": Adapter(round_plan, no_pairs_no_tasks),
    "13d_replacement_model_range": Adapter(replacement, same_type_and_size),
    "14b_backup_name": Adapter(name, the_enums_value, lambda output: output["name"]),
    "16_assignment_and_names": Adapter(assigned, entrants_of_the_match, lambda o: o["assigned[task,hotkey,repo]"]),
    "17_historical_task_selection_legacy": Adapter(history),
}
