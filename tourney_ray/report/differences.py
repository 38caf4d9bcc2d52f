"""Where two values of a fact differ first, and how that is told."""

from __future__ import annotations

import math
from typing import Any, cast

from tourney_ray.core.chain import Entry
from tourney_ray.core.replay import refusal
from tourney_ray.errors import AuditDifference

FLOAT_TOLERANCE = 1e-12
"""Relative. Weights come from powers, whose last bit may differ between two machines' mathematics."""

SHORTEST, LONGEST = 60, 120
"""Characters of a value that a message shows."""


def first_difference(path: str, said: Any, due: Any) -> tuple[str, Any, Any] | None:
    """Path and both values where two JSON values differ first; None when they are equal."""
    if isinstance(said, dict) and isinstance(due, dict):
        one, other = cast(dict[str, Any], said), cast(dict[str, Any], due)
        pairs = [(f"{path}.{key}", one.get(key), other.get(key)) for key in dict.fromkeys([*other, *one])]
    elif isinstance(said, list) and isinstance(due, list):
        items, others = cast(list[Any], said), cast(list[Any], due)
        if len(items) != len(others):
            return path.lstrip("."), items, others
        pairs = [(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(items, others, strict=True))]
    elif isinstance(said, float) and isinstance(due, float):
        return None if close(said, due, FLOAT_TOLERANCE) else (path.lstrip("."), said, due)
    else:
        return None if said == due else (path.lstrip("."), said, due)
    return next((found for pair in pairs if (found := first_difference(*pair))), None)


def close(one: float, other: float, tolerance: float) -> bool:
    """Equal within the tolerance, absolute below 1; no number equals no number."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)


def difference(entry: Entry, path: str, said: Any, due: Any) -> AuditDifference:
    """The error that the journal says one thing at that path of a fact, and the rules give another."""
    where = f"{path} " if path else ""
    return refusal(entry, f"the journal says {where}{_short(said)}, the rules give {_short(due)}")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:SHORTEST]}…{text[-SHORTEST + 1 :]}"
