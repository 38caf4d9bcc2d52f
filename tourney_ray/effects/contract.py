"""The contract with a miner's trainer: its command line, its environment, its paths, and how its dockerfile starts it.

Pure. Every sandbox, with containers or without, speaks to a trainer through these words only.
"""

from __future__ import annotations

from tourney_ray.core.dataset_types import ImageDatasetType
from tourney_ray.core.models import TaskType, TrainingSpec
from tourney_ray.effects.engine import dockerfile
from tourney_ray.errors import RepoRejected

WORKSPACE = "/workspace"
"""Where the repository lies for the trainer; read-only outside containers."""

CACHE = "/cache"
"""Models and data, read-only."""

CHECKPOINTS = "/app/checkpoints"
"""The only place that the trainer may write to."""

LOGS = "wandb_logs"
"""Folder below the checkpoints that outlives an attempt."""


def dockerfile_of(task_type: TaskType) -> str:
    """Path in the repository of the dockerfile that trains such tasks."""
    return dockerfile_at(kind_of(task_type))


def kind_of(task_type: TaskType) -> str:
    """Which of a repository's two trainers it is for: `text` or `image`."""
    return "image" if task_type is TaskType.IMAGE else "text"


def dockerfile_at(kind: str) -> str:
    """Path in the repository of the dockerfile of that trainer."""
    return f"dockerfiles/standalone-{kind}-trainer.dockerfile"


def model_folder(spec: TrainingSpec) -> str:
    """The model's folder below the cache."""
    return f"models/{spec.data.model_id.replace('/', '--')}"


def dataset_file(spec: TrainingSpec) -> str:
    """The training data's file below the cache."""
    ending = "tourn.zip" if spec.task_type is TaskType.IMAGE else "train_data.json"
    return f"datasets/{spec.task_id}_{ending}"


def output_folder(spec: TrainingSpec) -> str:
    """The folder below the checkpoints that the trainer's output is expected in."""
    return f"{spec.task_id}/{spec.expected_repo_name}"


def log_folder(spec: TrainingSpec) -> str:
    """Name of the training's folder below `LOGS`; the same in all attempts of a training."""
    return f"{spec.task_id}_{spec.hotkey}"


def contract_arguments(spec: TrainingSpec) -> list[str]:
    """The trainer's command line after its entry point. The data is in the cache already; its URL only names it."""
    data = f"file://{CACHE}/{dataset_file(spec)}"
    named = {"task-id": spec.task_id, "model": spec.data.model_id}
    if isinstance(spec.data.dataset_type, ImageDatasetType):
        named |= {"dataset-zip": data, "model-type": spec.data.dataset_type.model_type}
    else:
        named |= {
            "dataset": data,
            "dataset-type": spec.data.dataset_type.model_dump_json(),
            "task-type": spec.task_type.value,
            "file-format": "s3",
        }
    named |= {"expected-repo-name": spec.expected_repo_name, "hours-to-complete": _number(spec.hours_to_complete)}
    return [word for name, value in named.items() for word in (f"--{name}", value)]


def contract_environment(spec: TrainingSpec, cache: str = CACHE, checkpoints: str = CHECKPOINTS) -> dict[str, str]:
    """The variables of the contract, with the folders as the trainer sees them."""
    logs = f"{checkpoints}/{LOGS}/{log_folder(spec)}"
    folders = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")
    return {"WANDB_MODE": "offline", **dict.fromkeys(folders, logs), "TRANSFORMERS_CACHE": f"{cache}/hf_cache"}


def parse_entrypoint(text: str) -> list[str]:
    """The words that start the image's program: the last stage's ENTRYPOINT, else its CMD, in exec form.

    Raises `RepoRejected` where there is neither, or only a shell form, which needs an image to run in.
    """
    stage = dockerfile.parse(text).last_stage()
    found = {one.name: one.value for one in stage if one.name in ("ENTRYPOINT", "CMD") and not one.onbuild}
    if not found:
        raise RepoRejected("the dockerfile has neither ENTRYPOINT nor CMD")
    return _exec_form(*(("ENTRYPOINT", found["ENTRYPOINT"]) if "ENTRYPOINT" in found else ("CMD", found["CMD"])))


def _exec_form(name: str, value: str) -> list[str]:
    words = dockerfile.exec_form(value)
    if not words or not all(words):
        raise RepoRejected(f'the dockerfile\'s {name} is not in exec form, such as ["python3", "{WORKSPACE}/train.py"]')
    return words


def _number(hours: float) -> str:
    """Fractions as they are, whole numbers without a point, for trainers that expect an integer."""
    return str(int(hours)) if hours.is_integer() else repr(hours)
