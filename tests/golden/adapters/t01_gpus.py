"""01: which GPUs a training needs, and how large a model is by its name (RULES §5)."""

from __future__ import annotations

import re
from typing import Any

from tests.golden.harness import Adapter, Fixed, skip
from tourney_ray.core.models import TaskType
from tourney_ray.core.resources import get_tournament_gpu_requirement, model_size_from_name
from tourney_ray.core.rules import Rules

RULES = Rules()
ERROR = {"error": "ValueError"}


def _params(given: Any) -> int | None:
    """What is known of the model's size: the task's own number, else the hub's, where that answers with one."""
    hub = given["hub_params"]
    return given["model_params_count"] or (hub if isinstance(hub, int) and given["model_id"] else None)


def requirement(given: Any) -> Any:
    try:
        return get_tournament_gpu_requirement(TaskType(given["task_type"]), _params(given), RULES).value
    except ValueError:
        return ERROR


def unknown_is_an_error(given: Any, recorded: Any) -> Fixed | None:
    """Size 0 or unknown: an error, where the implementation takes one GPU or falls over."""
    if given["task_type"] == TaskType.IMAGE or _params(given):
        return None
    return Fixed("§5", ERROR)


def names_as_read(given: Any, recorded: Any) -> Fixed:
    """A size is a word of the name: a number, B or M, and perhaps more digits. B goes before M, then the first."""
    words = re.split(r"[^A-Za-z0-9.]+", given["model_id"].split("/")[-1])
    read = [match for word in words if (match := re.fullmatch(r"(\d+(?:\.\d+)?)([BbMm])\d*", word))]
    sizes = [(m[2].upper(), round(float(m[1]) * {"B": 1e9, "M": 1e6}[m[2].upper()])) for m in read]
    return Fixed("§5", min(sizes, key=lambda s: s[0])[1] if sizes else None)


ADAPTERS = {
    "01_gpu_requirement": Adapter(requirement, unknown_is_an_error),
    "01b_model_size_from_name": Adapter(lambda given: model_size_from_name(given["model_id"]), names_as_read),
    "01c_evaluation_gpus": skip("an evaluation holds no GPUs of its own"),
}
