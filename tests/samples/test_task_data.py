"""Tasks made for the demo: reproducible, split without a leak, and with nothing of the test set where trainers look."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tourney_ray.core.dataset_types import GrpoDatasetType
from tourney_ray.core.models import TaskType
from tourney_ray.errors import PlatformFault
from tourney_ray.samples.sentence_tasks import MAKERS, make_task_rows
from tourney_ray.samples.sentences import make_rows
from tourney_ray.samples.task_data import SampleTasks

RANGE = (0.0001, 0.001)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_task_is_written_as_it_is_described(tmp_path: Path, kind: TaskType) -> None:
    data = SampleTasks(tmp_path).prepare("task-1", kind, b"\x01" * 32, RANGE)
    assert data.test_rows == (data.dataset_rows + data.test_rows) // 10
    for path, digest, rows in (
        (data.dataset_path, data.dataset_sha256, data.dataset_rows),
        (data.test_path, data.test_sha256, data.test_rows),
    ):
        content = (tmp_path / path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert len(json.loads(content)) == rows
    assert data.dataset_path == "datasets/task-1_train_data.json"
    assert (data.model_id, data.model_params) == ("tourney/tiny-qwen2", 403_680)
    assert data.model_path == "models/tourney--tiny-qwen2"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / data.model_path).iterdir()
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["datasets", "models", "tests"]


@pytest.mark.parametrize(
    ("kind", "columns"),
    [(TaskType.INSTRUCT, ("instruct", "input")), (TaskType.DPO, ("prompt",)), (TaskType.GRPO, ("prompt",))],
)
def test_no_prompt_is_both_trained_and_tested(tmp_path: Path, kind: TaskType, columns: tuple[str, ...]) -> None:
    data = SampleTasks(tmp_path).prepare("task-1", kind, b"\x02" * 32, RANGE)
    train, test = (json.loads((tmp_path / path).read_bytes()) for path in (data.dataset_path, data.test_path))
    prompts = {tuple(row[column] for column in columns) for row in train}
    assert prompts
    assert not prompts & {tuple(row[column] for column in columns) for row in test}


@pytest.mark.parametrize("kind", MAKERS)
def test_the_seed_decides_and_nothing_else(tmp_path: Path, kind: TaskType) -> None:
    one = SampleTasks(tmp_path / "a").prepare("t", kind, b"\x03" * 32, RANGE)
    same = SampleTasks(tmp_path / "b").prepare("t", kind, b"\x03" * 32, RANGE)
    other = SampleTasks(tmp_path / "c").prepare("t", kind, b"\x04" * 32, RANGE)
    assert one == same
    assert one.dataset_sha256 != other.dataset_sha256


@given(st.integers(min_value=0, max_value=2**256 - 1))
@settings(max_examples=50, deadline=None)
def test_every_seed_yields_enough_different_rows(seed: int) -> None:
    rows = make_rows(seed, 448)
    assert len({(row["instruct"], row["input"]) for row in rows}) == 448
    assert all(row["instruct"] and row["output"] for row in rows)


def test_too_many_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="different rows"):
        make_rows(1, 5_000)


@given(st.integers(min_value=0, max_value=2**256 - 1))
@settings(max_examples=30, deadline=None)
def test_no_rejected_answer_is_the_chosen_one(seed: int) -> None:
    pairs, _ = make_task_rows(TaskType.DPO, seed, 100)
    assert all(pair["chosen"] != pair["rejected"] and pair["rejected"] for pair in pairs)


@given(st.integers(min_value=0, max_value=2**256 - 1))
@settings(max_examples=10, deadline=None)
def test_silence_earns_nothing_and_rewards_rise_by_degrees(seed: int) -> None:
    _, kind = make_task_rows(TaskType.GRPO, seed, 10)
    assert isinstance(kind, GrpoDatasetType)
    for described in kind.reward_functions:
        scope: dict[str, Any] = {}
        exec(described.reward_func, scope)
        (function,) = (thing for thing in scope.values() if inspect.isfunction(thing))
        texts = ["", *(" ".join(["aeinorst"] * words) for words in range(1, 13))]
        scores = function(texts, prompts=["?"] * len(texts))
        assert scores[0] == described.low
        assert all(score > described.low for score in scores[1:])
        assert scores == sorted(scores) or max(scores) - min(scores[1:]) < 0.02


@pytest.mark.parametrize("kind", [kind for kind in TaskType if kind not in (*MAKERS, TaskType.IMAGE)])
def test_other_types_are_refused(tmp_path: Path, kind: TaskType) -> None:
    with pytest.raises(PlatformFault, match=f"lack a data set of kind {kind.value}"):
        SampleTasks(tmp_path).prepare("t", kind, b"", RANGE)


@pytest.mark.parametrize("wanted", [(0.1, 4.0), (0.0, 0.0001)])
def test_a_range_without_the_model_is_refused(tmp_path: Path, wanted: tuple[float, float]) -> None:
    with pytest.raises(PlatformFault, match=rf"of {wanted[0]:g} to {wanted[1]:g}·10⁹ .*tiny-qwen2, has 0\.000404"):
        SampleTasks(tmp_path).prepare("t", TaskType.INSTRUCT, b"", wanted)
