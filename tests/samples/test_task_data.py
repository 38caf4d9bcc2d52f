"""Tasks made for the demo: reproducible, split without a leak, and with nothing of the test set where trainers look."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tourney_ray.core.models import TaskType
from tourney_ray.errors import PlatformFault
from tourney_ray.samples.sentences import make_rows
from tourney_ray.samples.task_data import SampleTasks

RANGE = (0.0001, 0.001)


def test_a_task_is_written_as_it_is_described(tmp_path: Path) -> None:
    data = SampleTasks(tmp_path).prepare("task-1", TaskType.INSTRUCT, b"\x01" * 32, RANGE)
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


def test_no_test_row_is_a_training_row(tmp_path: Path) -> None:
    data = SampleTasks(tmp_path).prepare("task-1", TaskType.INSTRUCT, b"\x02" * 32, RANGE)
    train, test = (json.loads((tmp_path / path).read_bytes()) for path in (data.dataset_path, data.test_path))
    prompts = {(row["instruct"], row["input"]) for row in train}
    assert not prompts & {(row["instruct"], row["input"]) for row in test}


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    one = SampleTasks(tmp_path / "a").prepare("t", TaskType.INSTRUCT, b"\x03" * 32, RANGE)
    same = SampleTasks(tmp_path / "b").prepare("t", TaskType.INSTRUCT, b"\x03" * 32, RANGE)
    other = SampleTasks(tmp_path / "c").prepare("t", TaskType.INSTRUCT, b"\x04" * 32, RANGE)
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


@pytest.mark.parametrize("kind", [kind for kind in TaskType if kind is not TaskType.INSTRUCT])
def test_other_types_are_refused(tmp_path: Path, kind: TaskType) -> None:
    with pytest.raises(PlatformFault, match=f"InstructTextTask only, not {kind.value}"):
        SampleTasks(tmp_path).prepare("t", kind, b"", RANGE)


@pytest.mark.parametrize("wanted", [(0.1, 4.0), (0.0, 0.0001)])
def test_a_range_without_the_model_is_refused(tmp_path: Path, wanted: tuple[float, float]) -> None:
    with pytest.raises(PlatformFault, match=rf"tiny-qwen2, has 0\.000404.*{wanted[0]:g} to {wanted[1]:g}"):
        SampleTasks(tmp_path).prepare("t", TaskType.INSTRUCT, b"", wanted)
