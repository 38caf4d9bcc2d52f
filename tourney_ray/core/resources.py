"""Which GPUs a training needs, and how large a model is by its name (RULES §5)."""

from __future__ import annotations

import re
from decimal import Decimal

from tourney_ray.core.models import GpuRequirement, TaskType
from tourney_ray.core.rules import Rules

SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z])", re.IGNORECASE)
"""A number that is a word's beginning, then B or M as the end of its letters: neither `8bit`, nor the 7 of `8x7B`."""


def get_tournament_gpu_requirement(task_type: TaskType, model_params: int | None, rules: Rules) -> GpuRequirement:
    """The GPUs of one training: one A100 for images, else H100s by the model's size and what the task type costs.

    `model_params` counts parameters. Raises `ValueError` when a text model's size is unknown or not positive: a silent
    single GPU would fail every entrant alike.
    """
    if task_type is TaskType.IMAGE:
        return GpuRequirement.A100
    if not model_params or model_params < 0:
        raise ValueError(f"the model of a {task_type.value} has no known size ({model_params}): name its parameters")
    size_b = model_params / 1e9 * _multiplier(task_type, rules)
    if size_b <= rules.gpu_threshold_for_2x_h100:
        return GpuRequirement.H100_1X
    if size_b <= rules.gpu_threshold_for_4x_h100:
        return GpuRequirement.H100_2X
    if size_b <= rules.gpu_threshold_for_8x_h100:
        return GpuRequirement.H100_4X
    return GpuRequirement.H100_8X


def model_size_from_name(name: str) -> int | None:
    """Parameters of the model that `org/name` names as in `0.5B`, `70b` or `135M`; None where the name does not tell.

    The first size counts, one in B before one in M, which may be a length of context.
    """
    sizes = [(unit.lower(), Decimal(number)) for number, unit in SIZE.findall(name.rsplit("/", 1)[-1])]
    unit, number = min(sizes, key=lambda size: size[0], default=("b", Decimal(0)))
    return int(number * (10**9 if unit == "b" else 10**6)) or None


def memory_bytes(limit: str) -> int:
    """The bytes of `24g`, `512m` or `1024k`, in powers of 1024; raises `ValueError` for other words."""
    match = re.fullmatch(r"([1-9][0-9]*)([kmg])", limit)
    if match is None:
        raise ValueError(f"a memory limit of {limit!r} is no size: write it as 24g or 512m")
    return int(match[1]) * 1024 ** {"k": 1, "m": 2, "g": 3}[match[2]]


def _multiplier(task_type: TaskType, rules: Rules) -> float:
    if task_type is TaskType.DPO:
        return rules.dpo_gpu_multiplier
    return rules.grpo_gpu_multiplier if task_type is TaskType.GRPO else 1.0
