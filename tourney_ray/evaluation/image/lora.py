"""A stranger's image LoRA: one safetensors file, read as numbers that fit the base pipeline.

`scan_lora` opens nothing but the header, `merge_lora` nothing but what that accepted. Plain LoRA on linear modules
only: W + alpha / rank · B · A. Both raise `CheckpointInvalid` with the file, the tensor and the rule in one line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.adapter import MAX_ALPHA, MAX_RANK
from tourney_ray.evaluation.image.lora_names import Slot
from tourney_ray.evaluation.safetensors_file import StoredTensor, read_header, read_metadata, shown
from tourney_ray.evaluation.weights import finite, read_tensor

PARTS = {
    ".lora_A.weight": "a", ".lora_down.weight": "a", ".lora.down.weight": "a",
    ".lora_B.weight": "b", ".lora_up.weight": "b", ".lora.up.weight": "b",
    ".alpha": "alpha", ".lora_alpha": "alpha",
}  # fmt: skip
"""What follows a module's name."""

OTHER_METHODS = (
    (re.compile(r"dora_scale|lora_magnitude_vector"), "DoRA, which scales the base's own weights"),
    (re.compile(r"\.hada_"), "LoHa"),
    (re.compile(r"\.lokr_"), "LoKr"),
    (re.compile(r"\.lora_mid"), "LoCon with a core tensor"),
    (re.compile(r"\.oft_|\.oft_blocks|\.boft_"), "OFT"),
    (re.compile(r"\.diff(_b)?$|\.set_weight"), "a difference of whole weights"),
    (re.compile(r"\.on_input$|\.ia3_"), "IA3"),
    (re.compile(r"\.lora_embedding_|\.bias$"), "more than linear modules"),
)
"""Names of tensors that tell of other methods than plain LoRA."""

PEFT_METADATA = "lora_adapter_metadata"
"""Where diffusers writes the settings of its adapters: a JSON object with fields such as `unet.lora_alpha`."""

PEFT_EMPTY = ("alpha_pattern", "rank_pattern", "use_dora", "lora_bias", "layer_replication", "modules_to_save")
"""Fields of them that have to be empty."""

SLACK_BYTES = 16 * 2**20
"""Room for the header."""


@dataclass(frozen=True, slots=True)
class LoraModule:
    """A · B on one module of the file."""

    a: StoredTensor
    """Shape (rank, inputs)."""
    b: StoredTensor
    """Shape (outputs, rank)."""
    alpha: StoredTensor | float | None
    """A tensor of one number, or a number; None: the rank."""
    rank_stabilised: bool
    slots: tuple[Slot, ...]


def scan_lora(path: Path, names: Mapping[str, tuple[Slot, ...]]) -> dict[str, LoraModule]:
    """The file's modules by name, all of them among `names` and of fitting shapes."""
    most = sum(8 * MAX_RANK * (slot.inputs + slot.last) for slots in names.values() for slot in slots) + SLACK_BYTES
    if (size := path.stat().st_size) > most:
        _refuse(path, f"it has {size} bytes; a LoRA of rank {MAX_RANK} on every module has fewer than {most}")
    parts: dict[str, dict[str, StoredTensor]] = {}
    for key, stored in read_header(path).items():
        module, part = _split(path, key)
        if part in parts.setdefault(module, {}):
            _refuse(path, f"module {shown(module)} has {part.upper()} twice, under two names")
        parts[module][part] = stored
    if not parts:
        _refuse(path, "it holds no tensors")
    settings = _peft_settings(path)
    modules = {name: _module(path, name, found, names, settings) for name, found in sorted(parts.items())}
    _check_once(path, modules)
    return modules


def merge_lora(
    modules: Mapping[str, LoraModule], places: Mapping[str, torch.Tensor], path: Path
) -> dict[str, torch.Tensor]:
    """The tensors of `places` that the LoRA changes, changed: fp32, finite. Modules of other places change nothing."""
    merged: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        if module.slots[0].place not in places:
            continue
        a, b = read_tensor(f"{name} A", module.a), read_tensor(f"{name} B", module.b)
        change = _scale(path, name, module) * (b @ a)
        for slot in module.slots:
            merged[slot.place] = finite(slot.place, places[slot.place].data + change[slot.first : slot.last])
    return merged


def _split(path: Path, key: str) -> tuple[str, str]:
    for pattern, method in OTHER_METHODS:
        if pattern.search(key):
            _refuse(path, f"tensor {shown(key)} belongs to {method}; only plain LoRA is accepted")
    for ending, part in PARTS.items():
        if key.endswith(ending):
            return key[: -len(ending)], part
    _refuse(path, f"tensor {shown(key)} is no part of a LoRA: known endings are {', '.join(PARTS)}")


def _module(
    path: Path,
    name: str,
    parts: Mapping[str, StoredTensor],
    names: Mapping[str, tuple[Slot, ...]],
    settings: Mapping[str, Any],
) -> LoraModule:
    if name not in names:
        _refuse(path, f"{shown(name)} is no linear module of the base pipeline (LoRA of convolutions is not accepted)")
    if missing := sorted({"a", "b"} - parts.keys()):
        _refuse(path, f"module {shown(name)} lacks {missing[0].upper()}")
    slots = names[name]
    rank = _check_shapes(path, name, parts, slots)
    component = name.split(".", 1)[0]
    alpha = parts.get("alpha") or settings.get(f"{component}.lora_alpha")
    stabilised = "alpha" not in parts and settings.get(f"{component}.use_rslora", False)
    if not 1 <= rank <= MAX_RANK:
        _refuse(path, f"module {shown(name)} has rank {rank}; allowed are 1 to {MAX_RANK}")
    return LoraModule(parts["a"], parts["b"], alpha, bool(stabilised), slots)


def _check_shapes(path: Path, name: str, parts: Mapping[str, StoredTensor], slots: tuple[Slot, ...]) -> int:
    """The module's rank."""
    a, b = parts["a"].shape, parts["b"].shape
    inputs, outputs = slots[0].inputs, slots[-1].last
    if len(a) != 2 or a[1] != inputs or b != (outputs, a[0]):  # noqa: PLR2004 - a matrix
        _refuse(
            path,
            f"module {shown(name)} has A {shown(list(a))} and B {shown(list(b))}; the base needs "
            f"[rank, {inputs}] and [{outputs}, rank]",
        )
    if "alpha" in parts and math.prod(parts["alpha"].shape) != 1:
        _refuse(path, f"the alpha of {shown(name)} is not one number")
    return a[0]


def _check_once(path: Path, modules: Mapping[str, LoraModule]) -> None:
    seen: dict[str, str] = {}
    for name, module in modules.items():
        for slot in module.slots:
            if (other := seen.setdefault(slot.place, name)) != name:
                _refuse(path, f"{shown(name)} and {shown(other)} both change {slot.place}")


def _scale(path: Path, name: str, module: LoraModule) -> float:
    rank = module.a.shape[0]
    alpha = module.alpha
    if isinstance(alpha, StoredTensor):
        alpha = float(read_tensor(f"{name}.alpha", alpha))
    if alpha is None:
        return 1.0
    if not 0 < alpha <= MAX_ALPHA:
        _refuse(path, f"the alpha of {shown(name)} is {alpha:g}, it has to be above 0 and up to {MAX_ALPHA}")
    return alpha / (math.sqrt(rank) if module.rank_stabilised else rank)


def _peft_settings(path: Path) -> dict[str, Any]:
    """Fields that diffusers wrote beside the tensors, checked; empty where there are none."""
    text = read_metadata(path).get(PEFT_METADATA)
    if text is None:
        return {}
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"its {PEFT_METADATA} is not JSON ({shown(str(error))})")
    if not isinstance(settings, dict):
        _refuse(path, f"its {PEFT_METADATA} is not a JSON object")
    for field, value in settings.items():
        ending = field.rsplit(".", 1)[-1]
        if ending in PEFT_EMPTY and value:
            _refuse(path, f"its {PEFT_METADATA} has {shown(field)} = {shown(value)}; only plain LoRA is accepted")
        if ending == "lora_alpha" and type(value) not in (int, float):
            _refuse(path, f"its {PEFT_METADATA} has {shown(field)} = {shown(value)}, which is not a number")
    return settings


def _refuse(path: Path, why: str) -> NoReturn:
    raise CheckpointInvalid(f"{shown(path.name)} is refused: {why}")
