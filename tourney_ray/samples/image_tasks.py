"""Image tasks for the demo: a tiny SDXL or Flux pipeline and invented captioned pictures, by seed.

Guarantee: the same seed makes the same archives; no test picture is a training picture; the test set never lies in a
folder that trainers see.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tourney_ray.core.models import TaskData
from tourney_ray.effects.task_files import count_parameters, place_model
from tourney_ray.errors import StorageUnavailable
from tourney_ray.evaluation.image.archive import Pair, packed, split_pairs
from tourney_ray.samples.pictures import make_pairs
from tourney_ray.samples.pipelines import MODEL_TYPES, ensure_pipeline, image_type, model_id

PAIRS = 40
"""Pictures of a task, before the split."""

DENOISERS = {"sdxl": "unet", "flux": "transformer"}


class SampleImageTasks:
    """The part of the demo's `TaskSource` that makes image tasks; everything lies under `root`.

    Pipelines are made once and kept in `cache`, by default the user's.
    """

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self._root = root
        self._cache = cache

    def prepare(self, task_id: str, seed: bytes) -> TaskData:
        """Data of a new image task, on the tiny SDXL or Flux pipeline by `seed`; raises `StorageUnavailable`."""
        dice = hashlib.sha256(b"image|" + seed).digest()
        model_type = MODEL_TYPES[dice[0] % len(MODEL_TYPES)]
        train, test = split_pairs(make_pairs(int.from_bytes(dice[1:9], "big"), PAIRS), seed)
        pipeline = ensure_pipeline(model_type, self._cache)
        try:
            return self._write(task_id, model_type, pipeline, train, test)
        except OSError as problem:
            raise StorageUnavailable(f"the data of task {task_id} could not be written: {problem}") from problem

    def _write(self, task_id: str, model_type: str, pipeline: Path, train: list[Pair], test: list[Pair]) -> TaskData:
        name = model_id(model_type)
        model_path = f"models/{name.replace('/', '--')}"
        dataset_path, test_path = f"datasets/{task_id}_tourn.zip", f"tests/{task_id}_test.zip"
        place_model(pipeline, self._root / model_path)
        return TaskData(
            model_id=name,
            model_params=count_parameters(pipeline / DENOISERS[model_type]),
            model_path=model_path,
            dataset_path=dataset_path,
            dataset_sha256=_write_archive(self._root / dataset_path, train),
            dataset_rows=len(train),
            test_path=test_path,
            test_sha256=_write_archive(self._root / test_path, test),
            test_rows=len(test),
            dataset_type=image_type(model_type),
            sequence_len=1,
        )


def _write_archive(path: Path, pairs: list[Pair]) -> str:
    """Write the pairs as an archive in one step; the SHA-256 of the file."""
    content = packed(pairs)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_bytes(content)
    staged.replace(path)
    return hashlib.sha256(content).hexdigest()
