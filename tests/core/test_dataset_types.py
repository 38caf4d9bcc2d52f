"""The documents that say how a data set is read: what they refuse, and that each is read back as its own kind."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from tourney_ray.core.dataset_types import (
    ChatDatasetType,
    DatasetType,
    DpoDatasetType,
    GrpoDatasetType,
    ImageDatasetType,
    InstructDatasetType,
    RewardFunction,
)

FUNCTION = RewardFunction(reward_func="def f(completions): return [0.0]", reward_weight=1.0, low=0.0, high=1.0)
KINDS = [
    InstructDatasetType(),
    ChatDatasetType(),
    DpoDatasetType(),
    GrpoDatasetType(reward_functions=(FUNCTION,)),
    ImageDatasetType(model_type="flux", metric="denoising"),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_read_back_as_its_own_kind(kind: DatasetType) -> None:
    adapter: TypeAdapter[DatasetType] = TypeAdapter(DatasetType)
    assert adapter.validate_json(kind.model_dump_json()) == kind


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("-inf"), 1.0), (0.0, float("nan"))])
def test_a_reward_has_a_finite_range(low: float, high: float) -> None:
    with pytest.raises(ValidationError, match="low has to be below high"):
        RewardFunction(reward_func="def f(completions): ...", reward_weight=1.0, low=low, high=high)


@pytest.mark.parametrize("weights", [(0.5,), (0.7, 0.7), (0.3, 0.3, 0.3)])
def test_weights_of_rewards_sum_to_one(weights: tuple[float, ...]) -> None:
    functions = tuple(FUNCTION.model_copy(update={"reward_weight": weight}) for weight in weights)
    with pytest.raises(ValidationError, match="they have to sum to 1"):
        GrpoDatasetType(reward_functions=functions)
