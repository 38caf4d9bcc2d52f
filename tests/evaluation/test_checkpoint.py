"""Folders of strangers: what is accepted, and the words with which each hostile one is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation import folder
from tourney_ray.evaluation.base_model import BaseModel
from tourney_ray.evaluation.checkpoint import load, scan

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"


def refusal(checkpoint: Path, base: BaseModel) -> str:
    with pytest.raises(CheckpointInvalid) as caught:
        load(scan(checkpoint, base.reference), base.reference, base.places)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("name", ["instruct_full", "dpo_full", "base"])
def test_honest_models_pass(files: Path, base: BaseModel, name: str) -> None:
    tensors = load(scan(files / name, base.reference), base.reference, base.places)
    assert tensors.keys() == base.reference.shapes.keys()
    assert sum(tensor.numel() for tensor in tensors.values()) == 403_680


def test_an_honest_adapter_passes(files: Path, base: BaseModel) -> None:
    submission = scan(files / "instruct_lora", base.reference)
    assert submission.lora is not None
    assert len(load(submission, base.reference, base.places)) == 21


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_read_as_their_numbers(full: Path, base: BaseModel, dtype, load_tensors, save_tensors) -> None:
    stored = {name: tensor.to(dtype) for name, tensor in load_tensors(full / WEIGHTS).items()}
    save_tensors(full / WEIGHTS, stored)
    loaded = load(scan(full, base.reference), base.reference, base.places)
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in stored.items())


# Each spoils a good folder; the words that the refusal has to contain stand beside it.
Spoil = Callable[[Path], object]
SPOILT: dict[str, tuple[Spoil, str]] = {
    "symlink": (lambda at: (at / "vocab.json").symlink_to("/etc/passwd"), "'vocab.json' is a symbolic link"),
    "dangling symlink": (lambda at: (at / "vocab.json").symlink_to("nowhere"), "is a symbolic link"),
    "fifo": (lambda at: os.mkfifo(at / "vocab.json"), "is a special file"),
    "subfolder": (lambda at: (at / "checkpoint-60").mkdir(), "'checkpoint-60' is a folder"),
    "pickle": (lambda at: (at / "pytorch_model.bin").write_bytes(b""), ".bin files are never opened"),
    "shouted pickle": (lambda at: (at / "WEIGHTS.PT").write_bytes(b""), ".pt files are never opened"),
    "code": (lambda at: (at / "modeling_qwen2.py").write_bytes(b""), ".py files are never opened"),
    "archive": (lambda at: (at / "model.tar").write_bytes(b""), ".tar files are never opened"),
    "script": (lambda at: (at / "run.sh").write_bytes(b""), ".sh files are never opened"),
    "gguf": (lambda at: (at / "model.gguf").write_bytes(b""), ".gguf files are never opened"),
    "other weights": (lambda at: (at / "consolidated.safetensors").write_bytes(b""), "is not on the list of files"),
    "hidden file": (lambda at: (at / ".bashrc").write_bytes(b""), "is not on the list of files"),
    "newline in a name": (lambda at: (at / "a\nb").write_bytes(b""), r"'a\nb' is not on the list"),
    "trailing bytes": (lambda at: os.truncate(at / WEIGHTS, 1_618_657), "its header accounts for"),
    "cut short": (lambda at: os.truncate(at / WEIGHTS, 1_000_000), "its header accounts for"),
    "no weights": (lambda at: (at / WEIGHTS).unlink(), "holds no weights"),
    "no config": (lambda at: (at / "config.json").unlink(), "holds weights without a config.json"),
    "broken config": (
        lambda at: (at / "config.json").write_text("{"),
        "'config.json' is refused: it is not sound JSON",
    ),
    "two models": (lambda at: (at / "adapter_model.safetensors").write_bytes(b""), "both an adapter and a full model"),
    "huge config": (lambda at: (at / "config.json").write_bytes(b" " * (16 * 2**20 + 1)), "is longer than"),
    "index of nothing": (lambda at: (at / INDEX).write_text("{}"), "it has no weight_map"),
    "too many bytes": (lambda at: sparse(at / "tokenizer.json", 2**31), "bytes; allowed are"),
}


def sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


@pytest.mark.parametrize("name", SPOILT)
def test_hostile_folders_are_refused(full: Path, base: BaseModel, name: str) -> None:
    spoil, words = SPOILT[name]
    spoil(full)
    assert words in refusal(full, base)


def test_too_many_files(full: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_FILES", 4)
    assert refusal(full, base) == "the checkpoint has more than 4 files"


@pytest.mark.parametrize("kind", ["missing", "file", "link", "empty"])
def test_what_is_no_folder_is_refused(tmp_path: Path, full: Path, base: BaseModel, kind: str) -> None:
    at = tmp_path / "checkpoint"
    make: dict[str, Spoil] = {
        "missing": lambda at: None,
        "file": lambda at: at.touch(),
        "link": lambda at: at.symlink_to(full),
        "empty": lambda at: at.mkdir(),
    }
    make[kind](at)
    assert "folder" in refusal(at, base)


# Each changes the tensors of a good model.
CHANGED: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "wrong shape": (
        lambda it: it.update({NORM: torch.ones(95)}),
        "'model.norm.weight' has shape [95], the model's is [96]",
    ),
    "other rank": (lambda it: it.update({NORM: torch.ones(96, 1)}), "the model's is [96]"),
    "extra": (lambda it: it.update({"model.evil": torch.ones(1)}), "hold 1 tensors that the model does not have"),
    "many": (lambda it: it.update({str(n): torch.ones(0) for n in range(9)}), "more tensors than the model's 39"),
    "missing": (lambda it: it.pop(NORM), "lack 1 tensors of the model, among them 'model.norm.weight'"),
    "NaN": (lambda it: it[NORM].__setitem__(5, torch.nan), "'model.norm.weight' holds values that are not finite"),
    "infinite": (lambda it: it[NORM].__setitem__(0, torch.inf), "not finite"),
    "beyond fp32": (lambda it: it.update({NORM: torch.full((96,), 1e300, dtype=torch.float64)}), "not finite"),
    "other head": (
        lambda it: it.update({"lm_head.weight": it["model.embed_tokens.weight"] * 2}),
        "'lm_head.weight' differs from model.embed_tokens.weight",
    ),
    "bent head": (lambda it: it.update({"lm_head.weight": torch.ones(1024, 95)}), "'lm_head.weight' has shape"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_other_tensors_than_the_models_are_refused(full, base, load_tensors, save_tensors, name: str) -> None:
    tensors = load_tensors(full / WEIGHTS)
    change, words = CHANGED[name]
    change(tensors)
    save_tensors(full / WEIGHTS, tensors)
    assert words in refusal(full, base)


def test_a_tied_head_that_equals_the_embedding_is_only_said_twice(full, base, load_tensors, save_tensors) -> None:
    tensors = load_tensors(full / WEIGHTS)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_tensors(full / WEIGHTS, tensors)
    assert "lm_head.weight" not in load(scan(full, base.reference), base.reference, base.places)


def test_a_hole_between_tensors(full: Path, base: BaseModel) -> None:
    content = (full / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for name, entry in header.items():
        if name != "__metadata__" and entry["data_offsets"][0] > 0:
            entry["data_offsets"] = [offset + 4 for offset in entry["data_offsets"]]
    text = json.dumps(header).encode()
    (full / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :] + b"\0" * 4)
    assert "hole or overlap" in refusal(full, base)


@pytest.fixture
def sharded(full: Path, load_tensors, save_tensors) -> Path:
    """The trained model in two shards with a sound index."""
    tensors = load_tensors(full / WEIGHTS)
    (full / WEIGHTS).unlink()
    weight_map: dict[str, str] = {}
    for number, names in enumerate((list(tensors)[:20], list(tensors)[20:]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_tensors(full / file, {name: tensors[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    (full / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return full


def test_shards_hold_the_same_tensors_as_one_file(sharded: Path, base: BaseModel, files: Path, load_tensors) -> None:
    loaded = load(scan(sharded, base.reference), base.reference, base.places)
    whole = load_tensors(files / "instruct_full" / WEIGHTS)
    assert loaded.keys() == whole.keys()
    assert all(torch.equal(loaded[name], whole[name]) for name in whole)


INDEXES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "path": (lambda it: it.update({NORM: "../model.safetensors"}), "which is not in the folder"),
    "absent shard": (lambda it: it.update({NORM: "model-00003-of-00003.safetensors"}), "which is not in the folder"),
    "not a name": (lambda it: it.update({NORM: 7}), "which is not in the folder"),
    "wrong shard": (lambda it: it.update({NORM: "model-00001-of-00002.safetensors"}), "does not agree with the shards"),
    "unknown tensor": (lambda it: it.update({"evil": it[NORM]}), "about tensor 'evil'"),
    "forgotten tensor": (lambda it: it.pop(NORM), "about tensor 'model.norm.weight'"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_lies_is_refused(sharded: Path, base: BaseModel, name: str) -> None:
    index = json.loads((sharded / INDEX).read_text())
    change, words = INDEXES[name]
    change(index["weight_map"])
    (sharded / INDEX).write_text(json.dumps(index))
    assert words in refusal(sharded, base)


def test_shards_without_an_index(sharded: Path, base: BaseModel) -> None:
    (sharded / INDEX).unlink()
    assert "is sharded (2 files) without" in refusal(sharded, base)


def test_a_tensor_in_two_shards(sharded: Path, base: BaseModel, save_tensors) -> None:
    save_tensors(sharded / "model-00003-of-00003.safetensors", {NORM: torch.ones(96)})
    assert refusal(sharded, base) == "tensor 'model.norm.weight' is stored in more than one file"
