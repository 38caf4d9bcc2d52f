"""The warm evaluator: pays for torch, transformers and the base model once, then only swaps submissions in.

What the entrants of a task share (tokenised rows, reference log-probabilities) is computed for the first of them and
kept. Importing this module imports no torch; the first evaluator does. A bad checkpoint is an answer
(`Evaluated.refused`), a fault of our own data is `EvaluatorCrashed` or `StorageUnavailable`, and costs nobody anything.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tourney_ray.core.evaluations import Device
from tourney_ray.core.models import Evaluated, TaskData, TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.errors import (
    CheckpointInvalid,
    ConfigError,
    EvaluatorCrashed,
    NotFound,
    StorageUnavailable,
    UserError,
)
from tourney_ray.evaluation.folder import refuse_hard_links
from tourney_ray.evaluation.kinds import Kind, Launcher, Score, Test, kind_named, kind_of
from tourney_ray.evaluation.rows import read_dataset_type

SEEDS = 2**256
TASKS_KEPT = 4
"""Tasks of the loaded base model that stay prepared: entrants of one boss round come in any order, memory is finite."""


class WarmEvaluator:
    """Evaluates one checkpoint after the other, holding the last base model and its last tasks.

    Relative task paths are under `root`. `launch` says how a task's own programs (reward functions) are started without
    network; without it, tasks that bring some are `EvaluatorCrashed`. It computes on the `device`.
    """

    def __init__(
        self, root: Path, launch: Launcher | None = None, rules: Rules | None = None, device: Device = "cpu"
    ) -> None:
        from tourney_ray.evaluation import scoring

        self._scoring = scoring
        self._device: Device = device
        self._root = root
        self._launch = launch
        self._text_guided_share = (rules or Rules()).image_text_guided_share
        self._base: Any = None
        self._base_key: object = None
        self._tasks: dict[object, Score] = {}

    def evaluate(self, task_type: TaskType, data: TaskData, checkpoint: Path, seed: bytes) -> Evaluated:
        """The metric of `checkpoint` on the task's test rows; `seed` matters to sampled kinds only.

        Raises `EvaluatorCrashed` for a task type that this version does not evaluate and for a base model or rows that
        cannot be used, `StorageUnavailable` for files that are missing, unreadable or not the task's.
        """
        kind = kind_of(task_type, data.dataset_type)
        if not checkpoint.exists():
            raise StorageUnavailable(f"no checkpoint at {checkpoint}", "check that the training's output was collected")
        try:
            test = replace(_checked_test(self._root, data, seed), text_guided_share=self._text_guided_share)
            return self.score(kind, self._root / data.model_path, test, checkpoint)
        except UserError as error:
            raise EvaluatorCrashed(f"the task cannot be evaluated: {error.message}", error.hint) from error
        except OSError as error:
            raise StorageUnavailable(f"a file of the evaluation cannot be read: {error}", "check the disk") from error
        except (RuntimeError, MemoryError) as error:
            raise EvaluatorCrashed(f"the evaluation of {checkpoint} broke off: {error}", "check the memory") from error

    def score(self, kind: Kind, base: Path, test: Test, checkpoint: Path, kept: bool = True) -> Evaluated:
        """The metric of `checkpoint` on `test`, or why it was refused; raises `UserError` for an unusable test.

        Whether it is `kept`, that is in the store of artifacts, which shares its files with the folder by hard links.
        """
        started = time.perf_counter()
        self._scoring.set_up(self._device)
        score = self._prepared(kind, base, test)
        try:
            if not kept:
                refuse_hard_links(checkpoint)
            result = score(checkpoint)
        except CheckpointInvalid as error:
            result = Evaluated(
                value=math.nan,
                fine_tuned=False,
                refused=error.message,
                environment=self._scoring.environment(),
            )
        return result.model_copy(update={"seconds": time.perf_counter() - started})

    def _prepared(self, kind: Kind, folder: Path, test: Test) -> Score:
        """The task made ready: once, for all checkpoints that come while it is kept."""
        scorer = kind.scorer()
        base_key = (scorer.load_base, _fingerprint(folder))
        if self._base is None or base_key != self._base_key:
            self._tasks.clear()  # gives its memory back before the next one is loaded
            self._base = None
            self._base, self._base_key = scorer.load_base(folder), base_key
        key = (kind, test)
        score = self._tasks.pop(key, None) or scorer.prepare(self._base, test, self._launch)
        while len(self._tasks) >= TASKS_KEPT:
            del self._tasks[next(iter(self._tasks))]
        self._tasks[key] = score
        return score


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line asks: the metric of one checkpoint folder on one file of rows."""

    kind: str
    base: Path
    checkpoint: Path
    rows: Path
    dataset_type: str | None = None
    """A JSON document, or a file of one; None for the defaults of the kind."""
    sequence_len: int | None = None
    """Longest row, tokens; None for what a task on this base model gets."""
    seed: int = 0
    """What a sampled kind draws from, 0 to 2²⁵⁶ − 1."""


def evaluate_files(question: Question, launch: Launcher | None = None) -> Evaluated:
    """The answer; raises `ConfigError` or `NotFound` for a wrong question.

    A refused checkpoint is an answer, with its reason in `refused`. `launch` is `WarmEvaluator`'s.
    """
    kind = kind_named(question.kind)
    if question.sequence_len is not None and question.sequence_len < 1:
        raise ConfigError(
            f"a sequence length of {question.sequence_len} leaves nothing to score", "give 2 or more tokens"
        )
    if not 0 <= question.seed < SEEDS:
        raise ConfigError(f"the seed {question.seed} is not a number of 32 bytes", "give 0 or more, below 2²⁵⁶")
    for name, folder in (("base model", question.base), ("checkpoint", question.checkpoint)):
        if not folder.is_dir():
            raise NotFound(f"no {name} at {folder}", "give the path of a folder")
    if not question.rows.exists():
        raise NotFound(f"no file with rows at {question.rows}", "give the path of the test set")
    columns = read_dataset_type(question.dataset_type, kind.dataset_type, dict(kind.told))
    test = Test(question.rows, "", columns, question.sequence_len, question.seed.to_bytes(32, "big"))
    return WarmEvaluator(question.base, launch).score(
        kind, question.base, test, question.checkpoint.resolve(), kept=False
    )


def _checked_test(root: Path, data: TaskData, seed: bytes) -> Test:
    """The test of a task; raises `StorageUnavailable` when the file is not the task's."""
    rows = root / data.test_path
    with rows.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != data.test_sha256:
        raise StorageUnavailable(f"{rows} is not the task's test set: its SHA-256 differs", "restore the task's data")
    return Test(rows, found, data.dataset_type, data.sequence_len, seed)


def _fingerprint(folder: Path) -> object:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return folder.resolve(), tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
