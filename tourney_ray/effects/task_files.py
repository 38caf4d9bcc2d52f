"""The files of a task: its model, its training rows, and its test rows, which lie where no trainer ever looks.

Guarantee: each file appears whole or not at all, whatever else is being prepared at the same time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from tourney_ray.core.dataset_types import DatasetType
from tourney_ray.core.models import TaskData
from tourney_ray.effects.task_rows import Row, Split
from tourney_ray.errors import ConfigError, StorageUnavailable

LONGEST_ROW = 4096
"""Most tokens of a row that is evaluated, whatever the model could read."""
LONG_CONTEXT = 8192
"""Positions from which a model reads such rows; of a shorter context, half is taken."""
LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, far above that of any model."""


def write_task(root: Path, task_id: str, model_id: str, model: Path, rows: Split, kind: DatasetType) -> TaskData:
    """The task on these rows with the model in the folder `model`, its files below `root`.

    Raises `ConfigError` for a folder without a model, `StorageUnavailable` when the disk fails.
    """
    model_path = f"models/{model_id.replace('/', '--')}"
    dataset_path, test_path = f"datasets/{task_id}_train_data.json", f"tests/{task_id}_test.json"
    try:
        place_model(model, root / model_path)
        return TaskData(
            model_id=model_id,
            model_params=count_parameters(model),
            model_path=model_path,
            dataset_path=dataset_path,
            dataset_sha256=_write_rows(root / dataset_path, rows.train),
            dataset_rows=len(rows.train),
            test_path=test_path,
            test_sha256=_write_rows(root / test_path, rows.test),
            test_rows=len(rows.test),
            dataset_type=kind,
            sequence_len=sequence_len(model),
        )
    except OSError as problem:
        raise StorageUnavailable(f"the data of task {task_id} could not be written: {problem}") from problem


def count_parameters(model: Path) -> int:
    """Parameters of the model in a folder, from the headers of its safetensors files alone.

    Raises `ConfigError` where there are none, or one cannot be read.
    """
    files = sorted(model.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{model} holds no model", "give a folder with config.json and *.safetensors")
    return sum(math.prod(shape) for file in files for shape in _shapes(file))


def sequence_len(model: Path) -> int:
    """Longest row that counts on the model in a folder, tokens; raises `ConfigError` for a bad `config.json`."""
    try:
        config = cast("dict[str, Any]", json.loads((model / "config.json").read_text(encoding="utf-8")))
        positions = int(config.get("max_position_embeddings") or LONG_CONTEXT)
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise ConfigError(f"{model / 'config.json'} cannot be read: {problem}", "restore the model") from problem
    return LONGEST_ROW if positions >= LONG_CONTEXT else min(LONGEST_ROW, math.ceil(positions / 2))


def place_model(model: Path, target: Path) -> None:
    """Have the files of the folder `model` at `target`, without taking their space twice where that can be.

    A copy that is there already is kept.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=target.parent))
    try:
        shutil.copytree(
            model, staged, dirs_exist_ok=True, copy_function=_placed, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
        staged.chmod(0o755)
        staged.rename(target)
    except OSError:
        shutil.rmtree(staged)
        if not target.exists():
            raise


def _placed(source: str, target: str) -> None:
    """The file `source`, or what it links to, at `target`: the same where the file system can, else a copy."""
    real = os.path.realpath(source)
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _shapes(file: Path) -> Iterable[list[int]]:
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            if length > LARGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = cast("dict[str, dict[str, list[int]]]", json.loads(content.read(length)))
        return [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ConfigError(f"{file} is no sound safetensors file: {problem}", "restore the model") from problem


def _write_rows(path: Path, rows: list[Row]) -> str:
    """Write `rows` as JSON in one step; the SHA-256 of the file."""
    content = json.dumps(rows, ensure_ascii=False, indent=0).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_bytes(content)
    staged.replace(path)
    return hashlib.sha256(content).hexdigest()
