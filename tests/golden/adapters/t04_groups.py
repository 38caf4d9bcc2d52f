"""04: who advances from a group (RULES §3, §7)."""

from __future__ import annotations

import math
from typing import Any

from tests.golden.harness import Adapter, Fixed
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.core.scoring import Submission, rank_task
from tourney_ray.core.verdict import decide_group

RULES = Rules()


def advancing(given: Any) -> Any:
    """All groups, one after the other; a task that is not there, or a group of nobody, is no match and sends nobody."""
    return [hotkey for task in given["tasks"] if task["members"] and not task.get("no_task") for hotkey in _group(task)]


def _group(task: Any) -> tuple[str, ...]:
    """Of the members alone, who registered in the order of the rows; the trainings of the others are not there."""
    values = {hotkey: value for hotkey, value, *_ in task["rows"] if hotkey in task["members"]}
    order = [*values, *(hotkey for hotkey in task["members"] if hotkey not in values)]
    submissions = [Submission(hotkey, i, values.get(hotkey)) for i, hotkey in enumerate(order)]
    return decide_group(rank_task(METRICS[TaskType(task["task_type"])], submissions, RULES), RULES).advancing


def the_metrics_own_direction(given: Any, recorded: Any) -> Fixed | None:
    """GRPO: the highest eight, where the implementation sorts ascending; and strangers to the group stay out."""
    odd = any(t["task_type"] == TaskType.GRPO or {r[0] for r in t["rows"]} - set(t["members"]) for t in given["tasks"])
    return Fixed("§3", [hotkey for task in given["tasks"] for hotkey in _due(task)]) if odd else None


def _due(task: Any) -> list[str]:
    if task.get("no_task"):
        return []
    rows = [(r[1], r[0]) for r in task["rows"] if r[0] in task["members"] and r[1] is not None and math.isfinite(r[1])]
    ordered = sorted(rows, key=lambda r: r[0], reverse=task["task_type"] == "GrpoTask")
    return [hotkey for _, hotkey in ordered[:8]]


ADAPTERS = {"04_group_winners": Adapter(advancing, the_metrics_own_direction)}
