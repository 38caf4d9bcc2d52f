"""Named sets of rules: in which fields each of them differs from `spec`. Data only; `rules` checks it.

`spec` is the published overview; `god-2025-12` has the numbers and the structure of the public implementation of
December 2025, without its defects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "spec": {},
    "god-2025-12": {
        "knockout_at_most": 14,
        "group_size": 32,
        "group_size_least": 20,
        "champion_evens_rounds": True,
        "boss_big_model_share": 0.2,
        "boss_equality": "challenger",
        "weight_mapping": "geometric",
        "weight_decay_base": 0.3,
    },
}
"""Fields of `Rules` by preset, where it differs from `spec`."""


def preset_fields(name: str) -> dict[str, Any]:
    """The fields of that preset that differ from `spec`; raises `ValueError` with the presets' names for any other."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}: the presets are {', '.join(PRESETS)}")
    return dict(PRESETS[name])
