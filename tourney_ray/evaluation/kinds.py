"""The kinds of task that are evaluated: the word of the command line, the task type, its data set's model, its scorer.

A kind is added with one line here and one module. That module is imported only when such a task comes, so this one
imports no torch. What it has to have is said at `Scorer`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, cast

from tourney_ray.core.dataset_types import (
    ChatDatasetType,
    DatasetType,
    DpoDatasetType,
    GrpoDatasetType,
    ImageDatasetType,
    InstructDatasetType,
)
from tourney_ray.core.models import Evaluated, TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.errors import ConfigError, EvaluatorCrashed

Launcher = Callable[[Sequence[str]], list[str]]
"""The words that run a program, given as words, without network: how depends on where the evaluator itself runs."""

Score = Callable[[Path], Evaluated]
"""The metric of the checkpoint in a folder, on a task made ready; raises `CheckpointInvalid` for one it refuses."""


@dataclass(frozen=True, slots=True)
class Test:
    """What the entrants of a task are measured on; equal tests of one base model give equal numbers."""

    __test__: ClassVar[bool] = False
    """Not what pytest calls one."""

    rows: Path
    """Test set, in the format of the kind."""
    rows_sha256: str
    dataset_type: DatasetType
    sequence_len: int | None
    """Longest row, tokens; None for what a task on the base model gets."""
    seed: bytes
    """Whence everything drawn follows; the same for all entrants of a task."""
    text_guided_share: float = Rules().image_text_guided_share
    """Of the losses with captions, in an image loss (`Rules`)."""


C = TypeVar("C")


def columns_of(test: Test, model: type[C]) -> C:
    """The dataset type of `test`, as what its kind says it is; raises `ConfigError` when it is another kind's."""
    if not isinstance(test.dataset_type, model):
        raise ConfigError(
            f"the data set is described by a {type(test.dataset_type).__name__}, not by a {model.__name__}",
            "prepare the task again",
        )
    return test.dataset_type


class Scorer(Protocol):
    """What the module of a kind has to have."""

    def load_base(self, folder: Path) -> Any:
        """The base model; kinds that share this function share the loaded model."""
        ...

    def prepare(self, base: Any, test: Test, launch: Launcher | None) -> Score:
        """All that is computed once per task and shared by its entrants; raises `UserError` for unusable rows.

        `launch` is for programs that the task brings along; without one, tasks that do are refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of task that is evaluated."""

    task_type: TaskType
    dataset_type: type[DatasetType]
    module: str
    """Module that is its `Scorer`."""
    told: tuple[tuple[str, str], ...] = ()
    """Fields of the data set's model that the word itself tells, with their values."""

    def scorer(self) -> Scorer:
        """The module, imported."""
        return cast(Scorer, importlib.import_module(self.module))


KINDS: Mapping[str, Kind] = {
    "instruct": Kind(TaskType.INSTRUCT, InstructDatasetType, "tourney_ray.evaluation.instruct"),
    "chat": Kind(TaskType.CHAT, ChatDatasetType, "tourney_ray.evaluation.chat"),
    "dpo": Kind(TaskType.DPO, DpoDatasetType, "tourney_ray.evaluation.preference"),
    "grpo": Kind(TaskType.GRPO, GrpoDatasetType, "tourney_ray.evaluation.reward"),
    "sdxl": Kind(TaskType.IMAGE, ImageDatasetType, "tourney_ray.evaluation.image.scoring", (("model_type", "sdxl"),)),
    "flux": Kind(TaskType.IMAGE, ImageDatasetType, "tourney_ray.evaluation.image.scoring", (("model_type", "flux"),)),
}
"""What this version evaluates, by the word of the command line."""


def evaluated_types() -> set[TaskType]:
    """The task types that this version evaluates."""
    return {kind.task_type for kind in KINDS.values()}


def kind_named(word: str) -> Kind:
    """The kind of a word of the command line; raises `ConfigError`."""
    if word not in KINDS:
        raise ConfigError(f"{word!r} is not evaluated by this version", f"kinds: {', '.join(KINDS)}")
    return KINDS[word]


def kind_of(task_type: TaskType, dataset_type: DatasetType) -> Kind:
    """The kind of a task; raises `EvaluatorCrashed` for one that this version does not evaluate or that is at odds."""
    kinds = [kind for kind in KINDS.values() if kind.task_type == task_type]
    if not kinds:
        raise EvaluatorCrashed(
            f"{task_type.value} is not evaluated by this version, only {', '.join(sorted(evaluated_types()))}",
            "configure tournaments without this kind of task",
        )
    for kind in kinds:
        told = all(getattr(dataset_type, field, None) == value for field, value in kind.told)
        if type(dataset_type) is kind.dataset_type and told:
            return kind
    raise EvaluatorCrashed(
        f"the data set of a {task_type.value} is described by a {type(dataset_type).__name__}, "
        f"it has to be a {kinds[0].dataset_type.__name__}",
        "prepare the task again",
    )
