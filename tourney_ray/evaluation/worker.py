"""The warm evaluator: pays for torch, transformers and the base model once, then only swaps submissions in.

Importing this module imports no torch; the first evaluator does. A bad checkpoint is an answer (`Evaluated.refused`), a
fault of our own data is `EvaluatorCrashed` or `StorageUnavailable`, which cost the entrant nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from tourney_ray.core.dataset_types import InstructDatasetType
from tourney_ray.core.models import Evaluated, TaskData, TaskType
from tourney_ray.errors import ConfigError, EvaluatorCrashed, NotFound, StorageUnavailable, UserError
from tourney_ray.evaluation.rows import examples, read_dataset_type, read_rows

if TYPE_CHECKING:
    from tourney_ray.evaluation.base_model import BaseModel

KINDS = {"instruct": TaskType.INSTRUCT}
"""What this version evaluates, by the word of the command line."""


class WarmEvaluator:
    """Evaluates one checkpoint after the other, holding the last base model. Relative task paths are under `root`."""

    def __init__(self, root: Path) -> None:
        from tourney_ray.evaluation import scoring

        self._root = root
        self._scoring = scoring
        self._base: BaseModel | None = None
        self._base_key: object = None

    def evaluate(self, task_type: TaskType, data: TaskData, checkpoint: Path, seed: bytes) -> Evaluated:
        """The metric of `checkpoint` on the task's test rows; `seed` matters to sampled kinds only.

        Raises `EvaluatorCrashed` for a task type that this version does not evaluate and for a base model or rows that
        cannot be used, `StorageUnavailable` for files that are missing, unreadable or not the task's.
        """
        if task_type not in KINDS.values():
            raise EvaluatorCrashed(
                f"{task_type.value} is not evaluated by this version, only {', '.join(KINDS.values())}",
                "configure tournaments without this kind of task",
            )
        try:
            return self._instruct(data, checkpoint)
        except UserError as error:
            raise EvaluatorCrashed(f"the task cannot be evaluated: {error.message}", error.hint) from error
        except OSError as error:
            raise StorageUnavailable(f"a file of the evaluation cannot be read: {error}", "check the disk") from error
        except (RuntimeError, MemoryError) as error:
            raise EvaluatorCrashed(f"the evaluation of {checkpoint} broke off: {error}", "check the memory") from error

    def _instruct(self, data: TaskData, checkpoint: Path) -> Evaluated:
        rows_path = self._root / data.test_path
        if not checkpoint.exists():
            raise StorageUnavailable(f"no checkpoint at {checkpoint}", "check that the training's output was collected")
        if hashlib.sha256(rows_path.read_bytes()).hexdigest() != data.test_sha256:
            raise StorageUnavailable(
                f"{rows_path} is not the task's test set: its SHA-256 differs", "restore the task's data"
            )
        if not isinstance(data.dataset_type, InstructDatasetType):
            raise EvaluatorCrashed(
                f"the columns of an Instruct task are described by {type(data.dataset_type).__name__}",
                "prepare the task again",
            )
        rows = examples(read_rows(rows_path), data.dataset_type)
        base = self._warm_base(self._root / data.model_path)
        return self._scoring.score_instruct(base, checkpoint, rows, data.sequence_len)

    def _warm_base(self, folder: Path) -> BaseModel:
        """The base model in `folder`, loaded again only when the folder or a file in it is another than last time."""
        key = _fingerprint(folder)
        if self._base is None or key != self._base_key:
            self._base = None  # gives its memory back before the next one is loaded
            self._base, self._base_key = self._scoring.load_base(folder), key
        return self._base


def evaluate_files(
    kind: str,
    base: Path,
    checkpoint: Path,
    rows: Path,
    dataset_type: str | None = None,
    sequence_len: int | None = None,
) -> Evaluated:
    """The metric of a checkpoint folder on a file of rows; `dataset_type` is a JSON document, None for the defaults.

    `sequence_len` defaults to what a task on this base model gets. Raises `ConfigError` or `NotFound` for a wrong
    question; a refused checkpoint is an answer, with its reason in `refused`.
    """
    if kind not in KINDS:
        raise ConfigError(f"{kind!r} is not evaluated by this version", f"kinds: {', '.join(KINDS)}")
    if sequence_len is not None and sequence_len < 1:
        raise ConfigError(f"a sequence length of {sequence_len} leaves nothing to score", "give 2 or more tokens")
    for name, folder in (("base model", base), ("checkpoint", checkpoint)):
        if not folder.is_dir():
            raise NotFound(f"no {name} at {folder}", "give the path of a folder")
    texts = examples(read_rows(rows), read_dataset_type(dataset_type))
    from tourney_ray.evaluation import scoring

    model = scoring.load_base(base)
    length = sequence_len or scoring.default_sequence_len(model.max_position)
    return scoring.score_instruct(model, checkpoint.resolve(), texts, length)


def _fingerprint(folder: Path) -> object:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return folder.resolve(), tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
