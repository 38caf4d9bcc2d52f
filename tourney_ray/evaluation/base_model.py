"""The base model of a task: loaded from the operator's folder, with its tokenizer and what submissions are held to.

Only safetensors from the local folder, never code of a model, never the hub. `tokenizer.json` is read as it stands,
since transformers rebuilds some tokenizers by their architecture. Attention is the plain formula (`eager`) in fp32: no
choice of kernels that a version or a machine could make differently.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import transformers
from transformers.utils import logging as transformers_logging

from tourney_ray.errors import CheckpointInvalid, ConfigError, NotFound
from tourney_ray.evaluation.checkpoint import Reference
from tourney_ray.evaluation.folder import CONFIG, WEIGHTS, read_json
from tourney_ray.evaluation.model_config import BaseConfig
from tourney_ray.evaluation.safetensors_file import read_header

ATTENTION = "eager"
TOKENIZER = "tokenizer.json"


class Tokenizer(Protocol):
    """The little of a tokenizer that evaluating needs."""

    @property
    def bos_token_id(self) -> int | None:
        """What begins a text, if anything."""
        ...

    @property
    def eos_token_id(self) -> int | None:
        """What ends an answer."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool, truncation: bool, verbose: bool) -> list[int]:
        """Token ids, with or without the special tokens that the tokenizer puts around a text."""
        ...


class FullTokenizer(Tokenizer, Protocol):
    """What a base model's tokenizer can do beyond that, for the kinds that need more."""

    @property
    def bos_token(self) -> str | None:
        """What begins a text, as text."""
        ...

    def __call__(
        self, text: str, *, add_special_tokens: bool, truncation: bool, verbose: bool, return_offsets_mapping: bool
    ) -> Mapping[str, Any]:
        """`input_ids` and, of each, the letters in `offset_mapping`."""
        ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """The text of tokens."""
        ...


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A loaded base model. `places` are its parameters and persistent buffers by name, each once."""

    model: torch.nn.Module
    tokenizer: FullTokenizer
    places: Mapping[str, torch.Tensor]
    reference: Reference
    max_position: int | None
    """Longest input that the model was made for, tokens."""


def load_base(folder: Path) -> BaseModel:
    """The model in `folder`, fp32, on torch's default device.

    Raises `NotFound` or `ConfigError` when there is no usable one.
    """
    for name in (CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise NotFound(
                f"no model in {folder}: it has no {name}", "give the folder of a model saved with safetensors"
            )
    forbid_kernels()
    transformers_logging.disable_progress_bar()
    written, stored = _files(folder)
    try:
        with torch.device("cpu"):  # elsewhere transformers hands it to accelerate
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation=ATTENTION, local_files_only=True, use_safetensors=True,
                trust_remote_code=False,
            )  # fmt: skip
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ConfigError(f"the model in {folder} cannot be loaded: {error}", "check the folder's files") from error
    model.to(torch.get_default_device()).eval().requires_grad_(False)
    model.tie_weights()  # one tensor again, where moving it made two
    places, tied = _places(model, stored)
    if missing := sorted(places.keys() - stored):
        raise ConfigError(
            f"the model in {folder} is stored under other names than it is loaded with ({missing[0]} …)",
            "save it once more with this version's transformers, or choose another base model",
        )
    reference = Reference(
        shapes={name: tuple(tensor.shape) for name, tensor in places.items()},
        tied=tied,
        linear=_linear_modules(model, places),
        config=_base_config(written, model.config),
    )
    max_position = getattr(model.config, "max_position_embeddings", None)
    return BaseModel(model, cast(FullTokenizer, tokenizer), places, reference, max_position)


def forbid_kernels() -> None:
    """Raises `ConfigError` where a package is installed that replaces parts of models by code from the network."""
    if importlib.util.find_spec("kernels") is not None:
        raise ConfigError(
            "the package `kernels` is installed: it swaps in code from the network", "pip uninstall kernels"
        )


def _files(folder: Path) -> tuple[dict[str, Any], set[str]]:
    """The configuration as written, and the names of all stored tensors."""
    try:
        written = read_json(folder / CONFIG)
        names = [read_header(path) for path in sorted(folder.iterdir()) if WEIGHTS.fullmatch(path.name)]
    except CheckpointInvalid as error:
        raise ConfigError(f"the base model in {folder} is damaged: {error.message}", "fetch it again") from error
    return written, {name for header in names for name in header}


def _places(model: torch.nn.Module, stored: set[str]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Every tensor of the model under one name, and the other names of those that are tied."""
    everything: dict[str, torch.Tensor] = model.state_dict(keep_vars=True)
    names_of: dict[int, list[str]] = {}
    for name, tensor in everything.items():
        names_of.setdefault(id(tensor), []).append(name)
    places: dict[str, torch.Tensor] = {}
    tied: dict[str, str] = {}
    for names in names_of.values():
        first = next((name for name in names if name in stored), names[0])
        places[first] = everything[first]
        tied |= {other: first for other in names if other != first}
    return places, tied


def _linear_modules(model: torch.nn.Module, places: Mapping[str, torch.Tensor]) -> frozenset[str]:
    modules = model.named_modules()
    return frozenset(
        name for name, module in modules if isinstance(module, torch.nn.Linear) and f"{name}.weight" in places
    )


def _base_config(written: dict[str, Any], config: Any) -> BaseConfig:
    defaults: dict[str, Any] = _as_json(type(config)())
    return BaseConfig(written, _as_json(config), defaults)


def _as_json(config: Any) -> dict[str, Any]:
    return json.loads(config.to_json_string(use_diff=False))
