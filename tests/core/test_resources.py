"""Which GPUs a training needs (RULES §5)."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tourney_ray.core.models import GpuRequirement, TaskType
from tourney_ray.core.resources import get_tournament_gpu_requirement, memory_bytes, model_size_from_name
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


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("Qwen/Qwen2.5-0.5B", B // 2),
        ("x/Yi-1.5B-chat", 3 * B // 2),
        ("unsloth/Llama-3.1-70b", 70 * B),
        ("HuggingFaceTB/SmolLM2-135M", 135 * 10**6),
        ("x/model-4bit-13B", 13 * B),
        ("x/model-13B-8bit", 13 * B),
        ("Qwen/Qwen2.5-7B-Instruct-1M", 7 * B),
        ("Qwen/Qwen3-30B-A3B", 30 * B),
        ("7B-labs/phi-2", None),
        ("mistralai/Mixtral-8x7B", None),
        ("x/merged-7B-8B", 7 * B),
        ("x/8bit", None),
        ("x/TinyLlama_v1.1", None),
        ("x/0B", None),
        ("", None),
    ],
)
def test_sizes_in_names(name: str, params: int | None):
    assert model_size_from_name(name) == params


@given(st.integers(1, 9999), st.sampled_from(["b", "B", "m", "M"]), st.sampled_from(["", "-8bit", "-chat", "_4bit"]))
def test_a_size_in_tenths_is_read_exactly(tenths: int, unit: str, rest: str):
    unit_size = B if unit in "bB" else 10**6
    assert model_size_from_name(f"x/llama-{tenths // 10}.{tenths % 10}{unit}{rest}") == tenths * unit_size // 10


def test_a_requirement_spells_ray_resources():
    spelt = [(r.gpu_type, r.gpus) for r in GpuRequirement]
    assert spelt == [("H100", 1), ("H100", 2), ("H100", 4), ("H100", 8), ("A100", 1)]


@pytest.mark.parametrize(("limit", "size"), [("24g", 24 * 2**30), ("512m", 2**29), ("1024k", 2**20)])
def test_a_memory_limit_in_bytes(limit: str, size: int) -> None:
    assert memory_bytes(limit) == size


@pytest.mark.parametrize("limit", ["", "0g", "much", "-1g", "1.5g", "24gg", "24"])
def test_a_memory_limit_that_is_no_size(limit: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        memory_bytes(limit)
