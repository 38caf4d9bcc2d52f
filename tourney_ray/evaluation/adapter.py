"""LoRA adapters: the few scalars of a stranger's `adapter_config.json` that may speak, and the tensors they then allow.

Guarantee: an adapter that passes is W + scale · B · A on linear modules of the base and nothing else. The base path
that it names is ignored, and peft never sees the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.safetensors_file import shown

MAX_RANK = 256
MAX_ALPHA = 1_000_000
MAX_TARGETS = 256
MODULE_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
PREFIX = "base_model.model."
"""What peft puts before a module's name."""

SILENT_FIELDS = frozenset({
    "base_model_name_or_path", "revision", "inference_mode", "peft_version", "lora_dropout",
    "qalora_group_size", "runtime_config",
})  # fmt: skip
"""Provenance, and knobs of the training that a merged adapter no longer has."""

CHECKED_VALUES: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    "megatron_core": ("megatron.core", None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal"),
}
"""Other initialisations (pissa, olora, corda, eva, loftq …) change the base weights, so they do not fit ours."""

SPOKEN_FIELDS = frozenset({"r", "lora_alpha", "target_modules", "use_rslora"})


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """All that an adapter's configuration contributes to the number."""

    rank: int
    """1 to 256."""
    alpha: float
    """Above 0."""
    rank_stabilised: bool
    """Whether the scale is alpha / √rank instead of alpha / rank."""
    targets: tuple[str, ...]
    """Module names, or the dotted ends of them."""

    @property
    def scale(self) -> float:
        """Factor of B · A."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)

    def modules(self, linear: Iterable[str]) -> list[str]:
        """The base's linear modules that the targets name, sorted."""
        ends = tuple(f".{target}" for target in self.targets)
        return sorted(module for module in linear if f".{module}".endswith(ends))


def read_settings(config: Mapping[str, Any]) -> LoraSettings:
    """The settings of an adapter; raises `CheckpointInvalid` for the first field that asks for more than plain LoRA."""
    for name in sorted(config.keys() - SILENT_FIELDS - SPOKEN_FIELDS):
        _check_field(name, config[name])
    rank: Any = config.get("r")
    alpha: Any = config.get("lora_alpha")
    rank_stabilised: Any = config.get("use_rslora", False)
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        _refuse(f"r is {shown(rank)}, it has to be a whole number from 1 to {MAX_RANK}")
    if type(alpha) not in (int, float) or not 0 < alpha <= MAX_ALPHA:
        _refuse(f"lora_alpha is {shown(alpha)}, it has to be a number above 0 and up to {MAX_ALPHA}")
    if type(rank_stabilised) is not bool:
        _refuse(f"use_rslora is {shown(rank_stabilised)}, it has to be true or false")
    return LoraSettings(rank, float(alpha), rank_stabilised, _targets(config.get("target_modules")))


def expected_shapes(
    settings: LoraSettings, linear: Iterable[str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that the adapter has to hold; raises `CheckpointInvalid` for targets without any."""
    expected: dict[str, tuple[int, ...]] = {}
    for module in settings.modules(linear):
        outputs, inputs = shapes[f"{module}.weight"]
        lora_a, lora_b = pair_names(module)
        expected |= {lora_a: (settings.rank, inputs), lora_b: (outputs, settings.rank)}
    if not expected:
        _refuse(f"target_modules {shown(list(settings.targets))} name no linear module of the base model")
    return expected


def pair_names(module: str) -> tuple[str, str]:
    """Names of a module's A and B in the adapter's file."""
    return f"{PREFIX}{module}.lora_A.weight", f"{PREFIX}{module}.lora_B.weight"


def _check_field(name: str, value: Any) -> None:
    if name in CHECKED_VALUES:
        if not any(
            value is allowed or (isinstance(value, str) and value == allowed) for allowed in CHECKED_VALUES[name]
        ):
            _refuse(f"{name} is {shown(value)}")
    elif value not in (None, False, {}, []) or type(value) in (int, float):
        _refuse(f"{shown(name)} is {shown(value)}; only plain LoRA is accepted, with this field empty")


def _targets(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_TARGETS:
        _refuse(f"target_modules is {shown(value)}, it has to be a list of module names, not a pattern")
    if not all(isinstance(name, str) and MODULE_NAME.fullmatch(name) for name in value):
        _refuse(f"target_modules {shown(value)} has to hold plain module names")
    return tuple(value)


def _refuse(why: str) -> NoReturn:
    raise CheckpointInvalid(f"adapter_config.json is refused: {why}")
