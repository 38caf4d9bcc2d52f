"""09: how much better the challenger was (RULES §8)."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from tests.golden.adapters.t06_verdicts import SPEC, due_winner, sides, task_winner
from tests.golden.harness import Adapter, Fixed
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import TaskType
from tourney_ray.core.verdict import boss_margin, performance_difference

CHAMPION = "champion"


def differences(given: Any) -> Any:
    boss, t = given["boss_hotkey"], boss_margin(given["consecutive_wins_before"], SPEC)
    tasks = [(task, METRICS[TaskType(task["task_type"])], *sides(boss, task)) for task in given["tasks"]]
    per_task = [
        {
            "boss": b,
            "challenger": c,
            "challenger_won": task_winner(CHAMPION, boss, task, t, SPEC) == challenger,
            "difference": None if b is None or c is None else performance_difference([(metric, b, c)]),
            "task_id": task["id"],
            "threshold": t,
        }
        for task, metric, b, challenger, c in tasks
        if b is not None or c is not None
    ]
    return {"median": performance_difference([(m, b, c) for _, m, b, _, c in tasks]), "per_task": per_task}


def by_the_champions_value(given: Any, recorded: Any) -> Fixed:
    """The denominator is |b|, with 0 for b = 0, where the implementation divides by something else."""
    boss, per_task = given["boss_hotkey"], [{**task} for task in recorded["per_task"]]
    found: list[float] = []
    tasks = {task["id"]: task for task in given["tasks"]}
    for entry in per_task:
        task, b, c = tasks[entry["task_id"]], entry["boss"], entry["challenger"]
        entry["challenger_won"] = due_winner(CHAMPION, boss, task, entry["threshold"]) == sides(boss, task)[1]
        if b is not None and c is not None:
            better = c - b if task["task_type"] == "GrpoTask" else b - c
            entry["difference"] = better / math.fabs(b) if b else 0.0
            found.append(entry["difference"])
    return Fixed("§8", {"median": median(found) if found else 0.0, "per_task": per_task})


ADAPTERS = {
    "09_performance_difference": Adapter(
        differences, by_the_champions_value, lambda o: {"median": o["median"], "per_task": o["per_task"]}
    )
}
