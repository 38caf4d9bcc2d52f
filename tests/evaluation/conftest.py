"""The tiny base model, its trained checkpoints, and folders to spoil."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
import transformers

from tests.evaluation.spoiling import write_tensors
from tourney_ray.core.dataset_types import DatasetType, InstructDatasetType
from tourney_ray.core.models import TaskData
from tourney_ray.evaluation.base_model import BaseModel, load_base
from tourney_ray.evaluation.rows import read_rows
from tourney_ray.evaluation.safetensors_file import read_header
from tourney_ray.evaluation.weights import read_tensor

FILES = Path(__file__).parents[1] / "fixtures" / "evaluation"

SaveTensors = Callable[[Path, Mapping[str, torch.Tensor]], None]
LoadTensors = Callable[[Path], dict[str, torch.Tensor]]
MergeAdapter = Callable[[Path], dict[str, torch.Tensor]]
EditJson = Callable[[Path, Mapping[str, Any]], None]


class Always(torch.nn.Module):
    """Gives the next token the same probabilities everywhere, whatever was read: numbers to compute by hand."""

    def __init__(self, probabilities: Mapping[int, float], vocabulary: int = 128) -> None:
        super().__init__()
        rest = (1 - sum(probabilities.values())) / (vocabulary - len(probabilities))
        self.logits = torch.tensor([probabilities.get(token, rest) for token in range(vocabulary)]).log()

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        assert not use_cache
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


@pytest.fixture(scope="session")
def always() -> type[Always]:
    return Always


@pytest.fixture(scope="session")
def task_of() -> Callable[..., TaskData]:
    """A task on a file of rows under tests/fixtures/evaluation."""
    return _task_of


@pytest.fixture(scope="session")
def files() -> Path:
    return FILES


@pytest.fixture(scope="session")
def base() -> BaseModel:
    return load_base(FILES / "base")


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    return json.loads((FILES / "expected.json").read_text())


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    return read_rows(FILES / "data" / "instruct_test.json")


@pytest.fixture
def columns() -> InstructDatasetType:
    return InstructDatasetType(field_instruction="instruct", field_input="input", field_output="output")


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A trained full model, to be spoiled."""
    return _copy("instruct_full", tmp_path / "full")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A trained adapter, to be spoiled."""
    return _copy("instruct_lora", tmp_path / "lora")


@pytest.fixture(scope="session")
def merged_by_peft() -> MergeAdapter:
    """The state of the base model with an adapter, loaded and merged by peft itself."""
    return _merged_by_peft


@pytest.fixture(scope="session")
def load_tensors() -> LoadTensors:
    return lambda path: {name: read_tensor(name, stored) for name, stored in read_header(path).items()}


@pytest.fixture(scope="session")
def save_tensors() -> SaveTensors:
    return write_tensors


@pytest.fixture(scope="session")
def edit_json() -> EditJson:
    """Sets fields of a JSON file; a field of `...` is removed."""
    return _edit_json


def _merged_by_peft(adapter: Path) -> dict[str, torch.Tensor]:
    model = transformers.AutoModelForCausalLM.from_pretrained(FILES / "base", dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()


def _task_of(test_path: str, dataset_type: DatasetType, sequence_len: int = 256, root: Path = FILES) -> TaskData:
    test = (root / test_path).read_bytes()
    return TaskData(
        model_id="tiny/base",
        model_params=403_680,
        model_path="base",
        dataset_path="data/train.json",
        dataset_sha256="0" * 64,
        dataset_rows=600,
        test_path=test_path,
        test_sha256=hashlib.sha256(test).hexdigest(),
        test_rows=len(json.loads(test)),
        dataset_type=dataset_type,
        sequence_len=sequence_len,
    )


def _copy(name: str, to: Path) -> Path:
    return Path(shutil.copytree(FILES / name, to))


def _edit_json(path: Path, fields: Mapping[str, Any]) -> None:
    document = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))
