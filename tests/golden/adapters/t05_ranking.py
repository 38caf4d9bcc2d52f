"""05: the scores of a task's entrants, and the loss of an image checkpoint (RULES §7)."""

from __future__ import annotations

import math
from typing import Any

from tests.golden.harness import Adapter, Fixed
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.core.scoring import Submission, image_loss, rank_task

RULES = Rules()


def scores(given: Any) -> Any:
    """Scores in the order of the results, which is the order of registration."""
    submissions = [
        Submission(str(i), i, r["test_loss"], r["is_finetune"], refused=r["score_reason"] or "")
        for i, r in enumerate(given["results"])
    ]
    ranking = rank_task(METRICS[TaskType(given["task_type"])], submissions, RULES)
    by_place = {r.hotkey: r.score for r in ranking}
    return [by_place[s.hotkey] for s in submissions]


def infinite_or_refused_is_invalid(given: Any, recorded: Any) -> Fixed | None:
    """An infinite value, and one refused before: invalid, hence −1 beside a valid one, and out of the ranking."""
    results = given["results"]
    if not any(math.isinf(r["test_loss"] or 0.0) or (r["score_reason"] and r["is_finetune"]) for r in results):
        return None
    return Fixed("§7", _due(results, given["task_type"] == "GrpoTask"))


def _due(results: Any, highest: bool) -> list[int]:
    fit = [
        i
        for i, r in enumerate(results)
        if r["is_finetune"] and not r["score_reason"] and r["test_loss"] is not None and math.isfinite(r["test_loss"])
    ]
    order = sorted(fit, key=lambda i: results[i]["test_loss"], reverse=highest)
    last = order[-max(1, len(order) // 4) :] if len(order) > 8 else []
    invalid = -1 if fit else 0
    return [
        3 if order and i == order[0] else -1 if i in last else 0 if i in fit else invalid for i in range(len(results))
    ]


def empty_is_invalid(given: Any, recorded: Any) -> Fixed | None:
    return None if given["text_guided"] and given["no_text"] else Fixed("§7", math.nan)


ADAPTERS = {
    "05_ranking_scores": Adapter(scores, infinite_or_refused_is_invalid, lambda output: [r["score"] for r in output]),
    "05b_image_loss": Adapter(
        lambda given: image_loss(given["text_guided"], given["no_text"], RULES), empty_is_invalid
    ),
}
