"""Past tasks that a boss round may use again (RULES §4): which are fit, which one is drawn, how good they were done."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tourney_ray.core.draw import position
from tourney_ray.core.ids import TaskPlace
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import TaskOrigin, TaskStatus, TaskType
from tourney_ray.core.rules import Rules


@dataclass(frozen=True, slots=True)
class PastTask:
    """A task of earlier days, as the operator's history tells it."""

    task_id: str
    task_type: TaskType
    origin: TaskOrigin
    created_at: datetime
    """Aware, UTC."""
    status: TaskStatus
    scores: tuple[float | None, ...]
    """Metrics of those who trained it; None or not finite where one failed."""

    @property
    def valid_scores(self) -> tuple[float, ...]:
        """The finite ones."""
        return tuple(score for score in self.scores if score is not None and math.isfinite(score))

    @property
    def best_score(self) -> float | None:
        """The best finite one in the direction of the task's metric, which the boss round is compared with."""
        return min(self.valid_scores, key=METRICS[self.task_type].sort_key, default=None)


def eligible_history(
    past: Iterable[PastTask], task_type: TaskType, chosen: Collection[str], rules: Rules
) -> tuple[PastTask, ...]:
    """Those of `past` that a boss round may use for a task of that type, in their order.

    They were successes with at least `history_min_scores` finite scores, made from `history_from` on and before
    `history_until`, not for a customer, and their ids are not among the `chosen`.
    """
    return tuple(task for task in past if task.task_type is task_type and _fit(task, chosen, rules))


def draw_history(secret_seed: str, place: TaskPlace, eligible: Sequence[PastTask]) -> PastTask | None:
    """The past task for that place, by the secret seed: the first in drawn order; None where nothing is eligible."""
    return min(eligible, key=lambda task: _position(secret_seed, place, task), default=None)


def _fit(task: PastTask, chosen: Collection[str], rules: Rules) -> bool:
    if task.origin is TaskOrigin.ORGANIC or task.status is not TaskStatus.SUCCESS or task.task_id in chosen:
        return False
    if rules.history_from is not None and task.created_at < rules.history_from:
        return False
    if rules.history_until is not None and task.created_at >= rules.history_until:
        return False
    return len(task.valid_scores) >= rules.history_min_scores


def _position(secret_seed: str, place: TaskPlace, task: PastTask) -> tuple[float, str]:
    return position(secret_seed, 0, "history", f"{place.match}/{place.slot}/{task.task_id}"), task.task_id
