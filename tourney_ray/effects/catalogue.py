"""The operator's catalogue: models and data sets on this machine, from which tasks of text are made by a seed.

Guarantee: the same catalogue and seed make the same task, and what no task could be made from is refused when the
catalogue is read, before anyone pays.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from tourney_ray.core.dataset_types import (
    ChatDatasetType,
    DatasetType,
    DpoDatasetType,
    GrpoDatasetType,
    InstructDatasetType,
)
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.core.record import Record
from tourney_ray.core.rules import Range
from tourney_ray.effects.dataset_files import data_files, read_data_set
from tourney_ray.effects.task_files import count_parameters, sequence_len, write_task
from tourney_ray.effects.task_rows import Row, as_text, split
from tourney_ray.errors import ConfigError, PlatformFault

LONGEST_PROMPT = 512
"""Tokens of a preference's prompt that are read: its last."""
LONGEST_PAIR = 1024
"""Tokens of prompt and answer together; a pair with a longer one makes no row of a task."""

TYPES: dict[TaskType, type[DatasetType]] = {
    TaskType.INSTRUCT: InstructDatasetType,
    TaskType.CHAT: ChatDatasetType,
    TaskType.DPO: DpoDatasetType,
    TaskType.GRPO: GrpoDatasetType,
}
"""How the columns of each kind of data set are described."""

Counter = Callable[[str], int]
"""Tokens of a text, without special ones."""

T = TypeVar("T")


class Model(Record):
    """A model that tasks may be about."""

    id: str = Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")
    """The contract's `--model`, such as `org/name`; another model needs another id."""
    path: Path
    """Folder with `config.json`, `tokenizer.json` and the weights as safetensors."""


class DataSet(Record):
    """Rows that tasks of one kind may be about."""

    name: str = Field(min_length=1)
    path: Path
    """A file, or a folder of shards."""
    kind: TaskType
    columns: DatasetType
    """By the kind; what is left out has the default of the contract."""

    @model_validator(mode="before")
    @classmethod
    def _columns_of_its_kind(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("kind") not in {*TYPES}:
            raise ValueError(f"a data set needs a kind, one of {', '.join(TYPES)}")
        try:
            columns = TYPES[TaskType(given["kind"])].model_validate(given.get("columns", {}))
        except ValidationError as error:
            raise ValueError(f"the columns of {given.get('name')!r}: {_spelt(error)}") from error
        return {**given, "columns": columns}


class Catalogue(Record):
    """All that tasks can be made from."""

    models: tuple[Model, ...] = Field(min_length=1)
    datasets: tuple[DataSet, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> Catalogue:
        for names in ([model.id for model in self.models], [data.name for data in self.datasets]):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{twice[0]} is there twice")
        return self


def load_catalogue(path: Path) -> Catalogue:
    """The catalogue in a TOML file, relative paths taken from its folder; raises `ConfigError` for whatever is wrong.

    Of data sets only their being there is looked at, not their rows.
    """
    try:
        found = Catalogue.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"the catalogue {path}: {error.strerror}", "name a file that exists") from error
    except ValidationError as error:
        raise ConfigError(
            f"the catalogue {path}: {_spelt(error)}", "docs/catalogue.example.toml has every key"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the catalogue {path} is not TOML: {error}") from error
    folder = path.resolve().parent
    models = (model.model_copy(update={"path": folder / model.path.expanduser()}) for model in found.models)
    datasets = (data.model_copy(update={"path": folder / data.path.expanduser()}) for data in found.datasets)
    absolute = Catalogue.model_construct(models=tuple(models), datasets=tuple(datasets))
    for data in absolute.datasets:
        data_files(data.path)
    return absolute


class CatalogueTasks:
    """The `TaskSource` of a catalogue; what it makes lies under `root`.

    `counter_of` gives the tokenizer of a model's folder. Raises `ConfigError` for a model that cannot be used.
    """

    def __init__(self, root: Path, catalogue: Catalogue, counter_of: Callable[[Path], Counter]) -> None:
        self._root = root
        self._datasets = sorted(catalogue.datasets, key=lambda data: data.name)
        self._counter_of = counter_of
        self._models = sorted(((_parameters(model), model) for model in catalogue.models), key=lambda m: m[1].id)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Parameters of its models, ascending."""
        return tuple(sorted(params for params, _ in self._models))

    def lacking(self, task_type: TaskType, model_range_b: Range) -> str:
        """What the catalogue would need for such a task; empty when it has all."""
        if not self._fitting(model_range_b):
            sizes = ", ".join(f"{model.id} {params / 1e9:.6g}" for params, model in self._models)
            return f"a model of {model_range_b[0]:g} to {model_range_b[1]:g}·10⁹ parameters (it has {sizes})"
        return "" if self._of_kind(task_type) else f"a data set of kind {task_type.value}"

    def prepare(self, task_id: str, task_type: TaskType, seed: bytes, model_range_b: Range) -> TaskData:
        """Data of a new task: model, data set and split are drawn by `seed`, each model and data set alike likely.

        Raises `PlatformFault` where the catalogue has nothing for it, `ConfigError` for a data set that has too few
        rows or other columns than it says, `StorageUnavailable` when the disk fails.
        """
        if lack := self.lacking(task_type, model_range_b):
            raise PlatformFault(f"task {task_id}: the catalogue lacks {lack}", "add one to the catalogue")
        model = _drawn(self._fitting(model_range_b), seed, b"model")
        data = _drawn(self._of_kind(task_type), seed, b"data set")
        rows = as_text(read_data_set(data.path), data.columns, data.name)
        if isinstance(data.columns, DpoDatasetType):
            rows = short_pairs(rows, data.columns, self._counter_of(model.path))
        return write_task(self._root, task_id, model.id, model.path, split(rows, seed, data.name), data.columns)

    def _fitting(self, model_range_b: Range) -> list[Model]:
        low, high = model_range_b
        return [model for params, model in self._models if low <= params / 1e9 <= high]

    def _of_kind(self, task_type: TaskType) -> list[DataSet]:
        return [data for data in self._datasets if data.kind is task_type]


def short_pairs(rows: Sequence[Row], columns: DpoDatasetType, count: Counter) -> list[Row]:
    """The rows of which prompt and longer answer, with its end, are not longer than a pair may be."""

    def tokens(row: Row) -> int:
        answers = (count(row[columns.field_chosen]), count(row[columns.field_rejected]))
        return min(LONGEST_PROMPT, count(row[columns.field_prompt])) + max(answers) + 1

    return [row for row in rows if tokens(row) <= LONGEST_PAIR]


def _spelt(error: ValidationError) -> str:
    """The first complaint of a validation, and where."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "document"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def _parameters(model: Model) -> int:
    if not (model.path / "tokenizer.json").is_file():
        raise ConfigError(f"the model {model.id} has no tokenizer.json in {model.path}", "save its fast tokenizer")
    sequence_len(model.path)
    return count_parameters(model.path)


def _drawn(choices: Sequence[T], seed: bytes, purpose: bytes) -> T:
    drawn = hashlib.sha256(seed + b"|" + purpose).digest()
    return choices[int.from_bytes(drawn, "big") % len(choices)]
