"""Tasks for the demo: a tiny bundled language model and small instruct data sets invented from a seed.

Guarantee: the same seed makes the same files; no test row is a training row; the test set never lies in a folder that
trainers see.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import cast

from tourney_ray.core.dataset_types import InstructDatasetType
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.errors import PlatformFault, StorageUnavailable
from tourney_ray.samples.sentences import Row, make_rows

BASE_MODEL = Path(__file__).parent / "base"
MODEL_ID = "tourney/tiny-qwen2"
TRAIN_ROWS = 400
TEST_ROWS = 48
LONGEST_ROW = 4096
"""Most tokens of a row that is evaluated, whatever the model could read."""

COLUMNS = InstructDatasetType(field_instruction="instruct", field_input="input", field_output="output")


class SampleTasks:
    """The `TaskSource` of the demo; everything it makes lies under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self, task_id: str, task_type: TaskType, seed: bytes, model_range_b: tuple[float, float]) -> TaskData:
        """Data of a new Instruct task of 400 training rows and 48 test rows, with the bundled model.

        Raises `PlatformFault` for another type or a range (10⁹ parameters) that the only model lies outside of.
        """
        if task_type is not TaskType.INSTRUCT:
            raise PlatformFault(f"the sample tasks are {TaskType.INSTRUCT.value} only, not {task_type.value}")
        params = count_parameters(BASE_MODEL / "model.safetensors")
        _check_range(params, model_range_b)
        rows = make_rows(int.from_bytes(hashlib.sha256(b"rows|" + seed).digest(), "big"), TRAIN_ROWS + TEST_ROWS)
        try:
            return self._write(task_id, params, rows[:TRAIN_ROWS], rows[TRAIN_ROWS:])
        except OSError as problem:
            raise StorageUnavailable(f"the data of task {task_id} could not be written: {problem}") from problem

    def _write(self, task_id: str, params: int, train: list[Row], test: list[Row]) -> TaskData:
        model_path = f"models/{MODEL_ID.replace('/', '--')}"
        dataset_path, test_path = f"datasets/{task_id}_train_data.json", f"tests/{task_id}_test.json"
        _place_model(self._root / model_path)
        return TaskData(
            model_id=MODEL_ID,
            model_params=params,
            model_path=model_path,
            dataset_path=dataset_path,
            dataset_sha256=_write_rows(self._root / dataset_path, train),
            dataset_rows=len(train),
            test_path=test_path,
            test_sha256=_write_rows(self._root / test_path, test),
            test_rows=len(test),
            dataset_type=COLUMNS,
            sequence_len=_sequence_len(),
        )


def count_parameters(checkpoint: Path) -> int:
    """Parameters of a safetensors file, from its header alone."""
    with checkpoint.open("rb") as file:
        header = cast("dict[str, dict[str, list[int]]]", json.loads(file.read(int.from_bytes(file.read(8), "little"))))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _check_range(params: int, model_range_b: tuple[float, float]) -> None:
    low, high = model_range_b
    if not low <= params / 1e9 <= high:
        raise PlatformFault(
            f"the only bundled model, {MODEL_ID}, has {params / 1e9:.6f}·10⁹ parameters; "
            f"the rules ask for {low:g} to {high:g}·10⁹",
            "widen the range of the rules, or name a task source with models of that size",
        )


def _sequence_len() -> int:
    """Longest row that counts, tokens: half of the model's positions, as for every model of fewer than 8192."""
    positions = int(json.loads((BASE_MODEL / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"])
    return min(LONGEST_ROW, math.ceil(positions / 2))


def _place_model(target: Path) -> None:
    """Copy the bundled model to `target` in one step; a copy that is there already is kept."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=target.parent))
    shutil.copytree(BASE_MODEL, staged, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    staged.chmod(0o755)
    try:
        staged.rename(target)
    except OSError:
        shutil.rmtree(staged)
        if not target.exists():
            raise


def _write_rows(path: Path, rows: list[Row]) -> str:
    """Write `rows` as JSON in one step; the SHA-256 of the file."""
    content = json.dumps(rows, ensure_ascii=False, indent=0).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_bytes(content)
    staged.replace(path)
    return hashlib.sha256(content).hexdigest()
