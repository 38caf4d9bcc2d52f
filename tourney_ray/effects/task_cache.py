"""A node's copies of models and training data: one folder per task, read by all of its trainings and written by none.

Guarantee: a folder is there whole or not at all, holds what the contract promises a trainer, and never test data.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from tourney_ray.core.models import TrainingSpec
from tourney_ray.effects import contract
from tourney_ray.effects.attempt_folder import file_name
from tourney_ray.effects.file_lock import alone
from tourney_ray.errors import InputsMissing, StorageUnavailable

EMPTY_FOLDERS = ("hf_cache",)
"""Named by the contract's environment; a trainer finds them, empty."""


class TaskCache:
    """Folders `root/{task}`, of the operator's models and data sets, each from the first of `stores` that has it."""

    def __init__(self, root: Path, *stores: Path) -> None:
        self._root = root
        self._stores = stores

    def folder(self, spec: TrainingSpec) -> Path:
        """Where the task's folder is, or would be."""
        return self._root / file_name(spec.task_id)

    def has(self, spec: TrainingSpec) -> bool:
        """Whether the task's folder is there."""
        return self.folder(spec).is_dir()

    def place(self, spec: TrainingSpec) -> Path:
        """The task's folder, made if need be: model, training data, and nothing else.

        Raises `InputsMissing` when the store does not hold them, or other data than the task's, and
        `StorageUnavailable` where the disk fails.
        """
        folder = self.folder(spec)
        if folder.is_dir():
            os.utime(folder)
            return folder
        try:
            with alone(self._root / f".{folder.name}.lock"):
                if not folder.is_dir():
                    self._make(spec, folder)
        except OSError as problem:
            raise StorageUnavailable(
                f"the data of task {spec.task_id} cannot be placed on this node: {problem}", "make room on its disk"
            ) from problem
        return folder

    def _make(self, spec: TrainingSpec, folder: Path) -> None:
        staged = folder.with_name(f".{folder.name}.staged")
        shutil.rmtree(staged, ignore_errors=True)
        model, dataset = self._source(spec, spec.data.model_path), self._source(spec, spec.data.dataset_path)
        shutil.copytree(model, staged / contract.model_folder(spec), copy_function=_link_or_copy)
        (staged / contract.dataset_file(spec)).parent.mkdir(parents=True)
        _link_or_copy(dataset, staged / contract.dataset_file(spec))
        for name in EMPTY_FOLDERS:
            (staged / name).mkdir()
        _check_data(spec, staged / contract.dataset_file(spec))
        staged.rename(folder)

    def _source(self, spec: TrainingSpec, path: str) -> Path:
        places = [store / path for store in self._stores]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            raise InputsMissing(f"the data of task {spec.task_id} is not here: {' or '.join(map(str, places))}")
        return found


def _check_data(spec: TrainingSpec, dataset: Path) -> None:
    with dataset.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != spec.data.dataset_sha256:
        wanted = spec.data.dataset_sha256[:12]
        raise InputsMissing(
            f"the training data of task {spec.task_id} has hash {found[:12]}, not the task's {wanted}",
            "restore the file that the task was prepared with",
        )


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    """The same file under another name where the disk is the same; a copy elsewhere. Links are followed."""
    real = os.path.realpath(source)
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)
