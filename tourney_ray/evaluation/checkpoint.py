"""A stranger's checkpoint: scanned as an untrusted folder, then read as numbers that fit the base model.

`scan` opens nothing but JSON and safetensors headers, `load` nothing but what `scan` accepted. Both raise
`CheckpointInvalid` with one line that says which file or field, and why. Tokenizer files are allowed and ignored.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation import adapter
from tourney_ray.evaluation.adapter import LoraSettings
from tourney_ray.evaluation.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, INDEX, WEIGHTS, list_files, read_json
from tourney_ray.evaluation.model_config import BaseConfig, check_config
from tourney_ray.evaluation.safetensors_file import StoredTensor, read_header, shown
from tourney_ray.evaluation.weights import finite, read_tensor

WIDEST_DTYPE_BYTES = 8
SIDE_FILES_BYTES = 256 * 2**20
"""Room for tokenizers, indices and notes beside the weights; no honest checkpoint needs a tenth of it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What every submission to one base model is held to."""

    shapes: Mapping[str, tuple[int, ...]]
    """All tensors of the model, tied ones once."""
    tied: Mapping[str, str]
    """Other names of tied tensors, with the name in `shapes` that each stands for."""
    linear: frozenset[str]
    """Modules whose weight a LoRA may change."""
    config: BaseConfig


@dataclass(frozen=True, slots=True)
class Submission:
    """A folder that passed the scan: where its tensors lie, and the LoRA settings if it is an adapter."""

    tensors: Mapping[str, StoredTensor]
    lora: LoraSettings | None = None


def scan(folder: Path, base: Reference) -> Submission:
    """The submission in `folder`, with the tensors of `base` or of a LoRA on it; raises `CheckpointInvalid`."""
    elements = sum(math.prod(shape) for shape in base.shapes.values())
    files = list_files(folder, WIDEST_DTYPE_BYTES * elements + SIDE_FILES_BYTES)
    weights = sorted(name for name in files if WEIGHTS.fullmatch(name))
    is_adapter = ADAPTER_CONFIG in files or ADAPTER_WEIGHTS in files
    if is_adapter and weights:
        raise CheckpointInvalid(
            f"the checkpoint holds both an adapter and a full model ({weights[0]}); submit one of them"
        )
    if CONFIG in files:
        check_config(read_json(folder / CONFIG), base.config)
    if is_adapter:
        return _scan_adapter(folder, files, base)
    if not weights:
        raise CheckpointInvalid(
            "the checkpoint holds no weights: neither model.safetensors nor adapter_model.safetensors"
        )
    if CONFIG not in files:
        raise CheckpointInvalid(f"the checkpoint holds weights without a {CONFIG}")
    tensors = _scan_shards(folder, weights, INDEX in files, most=len(base.shapes) + len(base.tied))
    _check_names(tensors, base.shapes, base.tied)
    return Submission(tensors)


def load(submission: Submission, base: Reference, base_tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors that may differ from `base_tensors`: fp32, finite, a LoRA merged in; raises `CheckpointInvalid`."""
    if submission.lora is not None:
        return _merged(submission.tensors, submission.lora, base.linear, base_tensors)
    tensors = {name: read_tensor(name, stored) for name, stored in submission.tensors.items()}
    for name, source in base.tied.items():
        if name in tensors and not torch.equal(tensors.pop(name), tensors[source]):
            raise CheckpointInvalid(f"tensor {shown(name)} differs from {source}, to which the base model ties it")
    return tensors


def _scan_adapter(folder: Path, files: Collection[str], base: Reference) -> Submission:
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if name not in files:
            raise CheckpointInvalid(f"the adapter lacks {name}")
    if INDEX in files:
        raise CheckpointInvalid(f"the adapter comes with {INDEX}, which belongs to a full model")
    settings = adapter.read_settings(read_json(folder / ADAPTER_CONFIG))
    tensors = read_header(folder / ADAPTER_WEIGHTS)
    _check_names(tensors, adapter.expected_shapes(settings, base.linear, base.shapes), {})
    return Submission(tensors, settings)


def _scan_shards(folder: Path, weights: list[str], indexed: bool, most: int) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for name in weights:
        header = read_header(folder / name)
        if twice := sorted(header.keys() & tensors.keys()):
            raise CheckpointInvalid(f"tensor {shown(twice[0])} is stored in more than one file")
        tensors |= header
        if len(tensors) > most:
            raise CheckpointInvalid(f"the weights hold more tensors than the model's {most}")
    if indexed:
        _check_index(folder, weights, tensors)
    elif weights != ["model.safetensors"]:
        raise CheckpointInvalid(f"the checkpoint is sharded ({len(weights)} files) without {INDEX}")
    return tensors


def _check_index(folder: Path, weights: list[str], tensors: Mapping[str, StoredTensor]) -> None:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointInvalid(f"{INDEX} is refused: it has no weight_map")
    for name, file in weight_map.items():
        if not isinstance(file, str) or file not in weights:
            raise CheckpointInvalid(
                f"{INDEX} is refused: it places {shown(name)} in {shown(file)}, which is not in the folder"
            )
    wrong = sorted(name for name, stored in tensors.items() if weight_map.get(name) != stored.path.name)
    if wrong or len(weight_map) != len(tensors):
        example = wrong[0] if wrong else min(weight_map.keys() - tensors.keys())
        raise CheckpointInvalid(f"{INDEX} is refused: it does not agree with the shards about tensor {shown(example)}")


def _check_names(
    tensors: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]], tied: Mapping[str, str]
) -> None:
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise CheckpointInvalid(f"the weights lack {len(missing)} tensors of the model, among them {shown(missing[0])}")
    if extra := sorted(tensors.keys() - shapes.keys() - tied.keys()):
        raise CheckpointInvalid(
            f"the weights hold {len(extra)} tensors that the model does not have, among them {shown(extra[0])}"
        )
    for name, stored in tensors.items():
        if stored.shape != (shape := shapes[tied.get(name, name)]):
            raise CheckpointInvalid(
                f"tensor {shown(name)} has shape {shown(list(stored.shape))}, the model's is {list(shape)}"
            )


def _merged(
    stored: Mapping[str, StoredTensor],
    lora: LoraSettings,
    linear: frozenset[str],
    base_tensors: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    merged: dict[str, torch.Tensor] = {}
    for module in lora.modules(linear):
        name = f"{module}.weight"
        lora_a, lora_b = (read_tensor(part, stored[part]) for part in adapter.pair_names(module))
        merged[name] = finite(name, base_tensors[name].data + lora.scale * (lora_b @ lora_a))
    return merged
