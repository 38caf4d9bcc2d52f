"""Whether a submission's `config.json` describes the base model, since nothing of it is ever used.

A training tool rewrites the file in its own version's words, so a field may have the value that the base's file says,
or the one that transformers reads from it. Fields that cannot change the number are free. Everything else is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.safetensors_file import shown

FREE_FIELDS = frozenset({
    "use_cache", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "pad_token_id",
    "bos_token_id", "eos_token_id", "unsloth_version", "unsloth_fixed", "_attn_implementation_autoset",
})  # fmt: skip
"""Storage, provenance and the tokenizer's ids: the evaluator takes its own dtype, cache, path and tokenizer."""

NEVER = {"auto_map": "it names code to load", "quantization_config": "weights must be plain numbers"}


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """What the base model's configuration says, in three readings of the same file."""

    written: Mapping[str, Any]
    """As the file has it."""
    understood: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As transformers reads it, all fields filled in."""
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What transformers assumes where a file of this architecture is silent."""


def check_config(config: Mapping[str, Any], base: BaseConfig) -> None:
    """Nothing; raises `CheckpointInvalid` naming the first field in which `config` departs from the base's."""
    for name, why in NEVER.items():
        if config.get(name) is not None:
            raise CheckpointInvalid(f"config.json is refused: {name} is set, and {why}")
    given, written, understood = _one_rope(config), _one_rope(base.written), _one_rope(base.understood)
    for name in sorted(given.keys() - FREE_FIELDS):
        readings = [known[name] for known in (written, understood) if name in known] or [None]
        if not any(_same(given[name], reading) for reading in readings):
            raise CheckpointInvalid(
                f"config.json is refused: {shown(name)} is {shown(given[name])}, "
                f"the base model's is {shown(readings[0])}"
            )
    for name in sorted(written.keys() - given.keys() - FREE_FIELDS):
        if name not in understood or not _same(understood[name], base.defaults.get(name)):
            raise CheckpointInvalid(f"config.json is refused: it lacks {name}, which the base model sets")


def _one_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its rotary embedding in the words of transformers 5, whichever version wrote it."""
    fields = dict(config)
    if "rope_parameters" in fields or "rope_theta" not in fields:
        return fields
    scaling = fields.pop("rope_scaling", None)
    theta = fields.pop("rope_theta")
    extra: dict[str, Any] = (
        scaling if isinstance(scaling, dict) else {} if scaling is None else {"rope_scaling": scaling}
    )
    return fields | {"rope_parameters": {"rope_type": "default"} | extra | {"rope_theta": theta}}


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON documents: 1 equals 1.0 and is not true."""
    return one == other and json.dumps(_plain(one), sort_keys=True) == json.dumps(_plain(other), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
