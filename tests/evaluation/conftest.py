"""The tiny base model, its trained checkpoints, and folders to spoil."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from tourney_ray.core.dataset_types import InstructDatasetType
from tourney_ray.evaluation.base_model import BaseModel, load_base
from tourney_ray.evaluation.rows import read_rows
from tourney_ray.evaluation.safetensors_file import read_header
from tourney_ray.evaluation.weights import read_tensor

FILES = Path(__file__).parents[1] / "fixtures" / "evaluation"
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}

SaveTensors = Callable[[Path, Mapping[str, torch.Tensor]], None]
LoadTensors = Callable[[Path], dict[str, torch.Tensor]]
MergeAdapter = Callable[[Path], dict[str, torch.Tensor]]
EditJson = Callable[[Path, Mapping[str, Any]], None]


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
    return _save_tensors


@pytest.fixture(scope="session")
def edit_json() -> EditJson:
    """Sets fields of a JSON file; a field of `...` is removed."""
    return _edit_json


def _merged_by_peft(adapter: Path) -> dict[str, torch.Tensor]:
    model = transformers.AutoModelForCausalLM.from_pretrained(FILES / "base", dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()


def _copy(name: str, to: Path) -> Path:
    return Path(shutil.copytree(FILES / name, to))


def _save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    header: dict[str, Any] = {}
    data = bytearray()
    for name, tensor in tensors.items():
        values = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        offsets = [len(data), len(data) + len(values)]
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        data += values
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def _edit_json(path: Path, fields: Mapping[str, Any]) -> None:
    document = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))
