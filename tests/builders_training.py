"""A training as a trainer is told of it, and the settings of a tournament small enough for tests."""

from __future__ import annotations

from typing import Any

from tourney_ray.core.models import GpuRequirement, TaskData, TaskType, TrainingSpec
from tourney_ray.effects.ran import Ran

SMALL_RULES = """\
[base_contestants.text]
hotkey = "{hotkey}"
coldkey = "c"
repo = "{repo}"
commit = "{commit}"
[rules]
min_miners = {min_miners}
hours_scale = {hours_scale}
platform_retry_s = 0.5
group_model_range_b = [0.0001, 4.0]
knockout_model_range_b = [0.0001, 12.0]
boss_model_range_b = [0.0001, 71.0]
knockout_task_shares = {{ InstructTextTask = 1.0 }}
boss_tasks = [{boss_tasks}]
"""
"""The part of a settings file that says who defends and by which rules: the `spec` ones, for a tiny model."""


def training_spec(data: TaskData, **changes: Any) -> TrainingSpec:
    """The first attempt of one training on that data, but for the changes."""
    fields: dict[str, Any] = {
        "attempt_id": "task-1/hk/1",
        "tournament_id": "t",
        "task_id": "task-1",
        "task_type": TaskType.INSTRUCT,
        "hotkey": "hk",
        "repo": "https://example.invalid/a",
        "commit": "a" * 40,
        "tree_hash": "b" * 40,
        "expected_repo_name": "tournament-t-hk",
        "data": data,
        "hours_to_complete": 0.01,
        "gpu_requirement": GpuRequirement.H100_1X,
        "mem_limit": "24g",
        "nano_cpus": 8_000_000_000,
        "epoch": 1,
    }
    return TrainingSpec(**(fields | changes))


def tiny_task_data(**changes: Any) -> TaskData:
    """A task of one row, but for the changes."""
    fields: dict[str, Any] = {
        "model_id": "org/tiny",
        "model_params": 1000,
        "model_path": "models/org--tiny",
        "dataset_path": "datasets/task-1_train_data.json",
        "dataset_sha256": "0" * 64,
        "dataset_rows": 1,
        "test_path": "tests/task-1_test.json",
        "test_sha256": "0" * 64,
        "test_rows": 1,
        "sequence_len": 256,
    }
    return TaskData(**(fields | changes))


RAN = Ran(
    epoch=1,
    seconds=1.0,
    exit_code=0,
    oom_killed=False,
    container_id="c",
    image_id="i",
    gpu_indices=(0,),
    started_at=None,
    finished_at=None,
)
"""A training in a container that went well."""
