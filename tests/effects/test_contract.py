"""The contract's command line and environment, and what a dockerfile says about starting a trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders_training import tiny_task_data
from tests.effects.builders_sandbox import World
from tourney_ray.core.dataset_types import ImageDatasetType
from tourney_ray.core.models import TaskType
from tourney_ray.effects.contract import contract_arguments, contract_environment, parse_entrypoint
from tourney_ray.errors import RepoRejected


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ('FROM x\nENTRYPOINT ["python3", "/workspace/train.py"]\n', ["python3", "/workspace/train.py"]),
        ('FROM x\nCMD ["a"]\n', ["a"]),
        ('FROM x\nCMD ["ignored"]\nentrypoint ["a", "b c"]\n', ["a", "b c"]),
        ('FROM x\nENTRYPOINT ["first"]\nENTRYPOINT ["last"]\n', ["last"]),
        ('FROM x AS one\nENTRYPOINT ["one"]\nFROM y\nCMD ["two"]\n', ["two"]),
        ('FROM x\nENTRYPOINT ["a", \\\n# a remark\n  "b"]\n', ["a", "b"]),
    ],
)
def test_the_program_of_a_dockerfile(dockerfile: str, words: list[str]) -> None:
    assert parse_entrypoint(dockerfile) == words


@pytest.mark.parametrize(
    "dockerfile",
    ["", "FROM x\n", "FROM x\nENTRYPOINT python3 train.py\n", "FROM x\nCMD []\n", "FROM x\nCMD [1]\n", 'CMD "a"\n'],
)
def test_a_dockerfile_without_a_program_is_refused(dockerfile: str) -> None:
    with pytest.raises(RepoRejected, match=r"ENTRYPOINT|CMD"):
        parse_entrypoint(dockerfile)


def test_the_command_line_of_a_text_task(tmp_path: Path) -> None:
    world = World(tmp_path)
    words = contract_arguments(world.spec(world.source(""), hours=2.0))
    named = dict(zip(words[::2], words[1::2], strict=True))
    assert list(named) == [
        "--task-id",
        "--model",
        "--dataset",
        "--dataset-type",
        "--task-type",
        "--file-format",
        "--expected-repo-name",
        "--hours-to-complete",
    ]
    assert named["--hours-to-complete"] == "2"
    assert named["--dataset"] == "file:///cache/datasets/task-1_train_data.json"
    assert json.loads(named["--dataset-type"])["field_instruction"] == "instruction"
    assert str(tmp_path) not in " ".join(words)


@pytest.mark.parametrize(("model", "kind"), [("org/FLUX.1-dev", "flux"), ("org/in-flux-xl", "sdxl")])
def test_the_command_line_of_an_image_task(tmp_path: Path, model: str, kind: str) -> None:
    world = World(tmp_path)
    data = tiny_task_data().model_copy(
        update={"model_id": model, "dataset_type": ImageDatasetType.model_validate({"model_type": kind})}
    )
    changes = {"task_type": TaskType.IMAGE, "data": data}
    words = contract_arguments(world.spec(world.source("")).model_copy(update=changes))
    assert words == [
        *("--task-id", "task-1"),
        *("--model", model),
        *("--dataset-zip", "file:///cache/datasets/task-1_tourn.zip"),
        *("--model-type", kind),
        *("--expected-repo-name", "tournament-1-hk-a"),
        *("--hours-to-complete", "0.01"),
    ]


def test_the_environment(tmp_path: Path) -> None:
    world = World(tmp_path)
    env = contract_environment(world.spec(world.source("")))
    assert env.pop("WANDB_MODE") == "offline"
    assert env.pop("TRANSFORMERS_CACHE") == "/cache/hf_cache"
    names = {"WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"}
    assert env == dict.fromkeys(names, f"/app/checkpoints/wandb_logs/task-1_{world.hotkey}")
