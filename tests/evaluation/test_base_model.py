"""Base models of the operator: what is read of them, and what cannot serve as one."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

from tourney_ray.errors import ConfigError, NotFound
from tourney_ray.evaluation.base_model import BaseModel, load_base


@pytest.fixture
def copy(files: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(files / "base", tmp_path / "base"))


def test_what_submissions_are_held_to(base: BaseModel) -> None:
    assert len(base.reference.shapes) == 38
    assert base.reference.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert len(base.reference.linear) == 21
    assert base.max_position == 512
    assert {tensor.dtype for tensor in base.places.values()} == {torch.float32}


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"it has no config\.json"):
        load_base(tmp_path)


def test_a_model_without_its_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(NotFound, match=r"it has no tokenizer\.json"):
        load_base(copy)


def test_a_model_without_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_base(copy)


def test_a_damaged_model(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="is damaged"):
        load_base(copy)


def test_a_model_stored_under_other_names(copy: Path, load_tensors, save_tensors) -> None:
    tensors = load_tensors(copy / "model.safetensors")
    tensors["model.final.weight"] = tensors.pop("model.norm.weight")
    save_tensors(copy / "model.safetensors", tensors)
    with pytest.raises(ConfigError, match=r"stored under other names than it is loaded with \(model\.norm\.weight"):
        load_base(copy)


def test_the_package_kernels_is_never_there(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "kernels" else None)
    with pytest.raises(ConfigError, match="the package `kernels` is installed"):
        load_base(copy)
