"""Which GPUs a training needs (RULES §5)."""

from __future__ import annotations

import pytest

from tourney_ray.core.models import GpuRequirement, TaskType
from tourney_ray.core.resources import get_tournament_gpu_requirement
from tourney_ray.core.rules import Rules

ONE, TWO, FOUR, EIGHT = (
    GpuRequirement.H100_1X,
    GpuRequirement.H100_2X,
    GpuRequirement.H100_4X,
    GpuRequirement.H100_8X,
)
B = 10**9


@pytest.mark.parametrize(
    ("task_type", "params", "requirement"),
    [
        (TaskType.INSTRUCT, 1, ONE),
        (TaskType.INSTRUCT, 4 * B, ONE),
        (TaskType.INSTRUCT, 4 * B + 1, TWO),
        (TaskType.CHAT, 12 * B, TWO),
        (TaskType.CHAT, 12 * B + 1, FOUR),
        (TaskType.INSTRUCT, 40 * B, FOUR),
        (TaskType.INSTRUCT, 40 * B + 1, EIGHT),
        (TaskType.DPO, 1_333_333_333, ONE),
        (TaskType.DPO, 1_333_333_334, TWO),
        (TaskType.DPO, 4 * B, TWO),
        (TaskType.DPO, 13_333_333_333, FOUR),
        (TaskType.DPO, 14 * B, EIGHT),
        (TaskType.GRPO, 2 * B, ONE),
        (TaskType.GRPO, 6 * B, TWO),
        (TaskType.GRPO, 20 * B, FOUR),
        (TaskType.GRPO, 20 * B + 1, EIGHT),
        (TaskType.IMAGE, 12 * B, GpuRequirement.A100),
    ],
)
def test_gpus_by_size_and_task_type_bounds_included(task_type: TaskType, params: int, requirement: GpuRequirement):
    assert get_tournament_gpu_requirement(task_type, params, Rules()) is requirement


@pytest.mark.parametrize("params", [None, 0, -B])
def test_an_unknown_size_is_an_error_and_never_one_gpu(params: int | None):
    with pytest.raises(ValueError, match=r"the model of a DpoTask has no known size .*: name its parameters"):
        get_tournament_gpu_requirement(TaskType.DPO, params, Rules())


def test_an_image_model_needs_no_size():
    assert get_tournament_gpu_requirement(TaskType.IMAGE, None, Rules()) is GpuRequirement.A100


def test_other_rules_other_bounds():
    rules = Rules(dpo_gpu_multiplier=1, gpu_threshold_for_2x_h100=1)
    assert get_tournament_gpu_requirement(TaskType.DPO, 2 * B, rules) is TWO


def test_a_requirement_spells_ray_resources():
    spelt = [(r.gpu_type, r.gpus) for r in GpuRequirement]
    assert spelt == [("H100", 1), ("H100", 2), ("H100", 4), ("H100", 8), ("A100", 1)]
