"""Recorded decisions and how ours are held against them: rows, adapters, and when two values are the same.

A row is an input and what the public implementation said to it. An adapter puts the input to our core and says which
rows our rules decide otherwise, and to what value; such a value is worked out beside the core, never taken from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOLERANCE = 1e-12
"""Relative, of floats."""

SHOWN = 10
"""Wrong rows that a complaint lists."""

BURN = "5GU4Xkd3dCGTU3s8VLcHGc5wsD5M8XyxDca5yDQhYm1mVXFu"
"""The hotkey under which the implementation lets the champion play."""


@dataclass(frozen=True)
class Row:
    """One recorded decision."""

    row_id: str
    given: Any
    recorded: Any


@dataclass(frozen=True)
class Fixed:
    """Our rules decide the row otherwise."""

    section: str
    """Of the rule book, such as `§8`."""
    value: Any
    """What that section demands, in the shape of the recorded value."""


@dataclass(frozen=True)
class Skipped:
    """Our system has no such decision."""

    because: str


Otherwise = Callable[[Any, Any], Fixed | Skipped | None]
"""From (input, recorded value) to what our rules say of the row; None: the same as recorded."""


def as_recorded(given: Any, recorded: Any) -> None:
    """Every row is the same as recorded."""


def whole(output: Any) -> Any:
    """The recorded value as it is."""
    return output


@dataclass(frozen=True)
class Adapter:
    """How one file of vectors is read."""

    ours: Callable[[Any], Any]
    """From the input to what our core says, in the shape of the recorded value."""
    otherwise: Otherwise = as_recorded
    compared: Callable[[Any], Any] = whole
    """The part of a recorded output that is a decision, without prose."""


@dataclass
class Tally:
    """What became of the rows of one file."""

    recorded: int = 0
    fixed: int = 0
    skipped: int = 0
    wrong: list[str] = field(default_factory=list[str])


def skip(because: str) -> Adapter:
    """An adapter of a file that our system has no decisions for."""
    return Adapter(ours=whole, otherwise=lambda given, recorded: Skipped(because))


def read(path: Path) -> Iterator[Row]:
    """The rows of a file, numbers that JSON lacks included."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line, object_hook=_number)
        yield Row(row["id"], row["input"], row["output"])


def _number(document: dict[str, Any]) -> Any:
    return float(document["$f"]) if set(document) == {"$f"} else document


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, floats to within 1e-12 relative, NaN like NaN, a tuple like a list."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=TOLERANCE)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    return one is None and other is None


def compare(adapter: Adapter, row: Row, tally: Tally) -> None:
    """Count the row, and note it where ours differs from what it should be."""
    recorded = adapter.compared(row.recorded)
    decided = adapter.otherwise(row.given, recorded)
    if isinstance(decided, Skipped):
        tally.skipped += 1
        return
    fixed = decided is not None and not same(decided.value, recorded)
    due = decided.value if decided is not None and fixed else recorded
    ours = adapter.ours(row.given)
    if fixed:
        tally.fixed += 1
    else:
        tally.recorded += 1
    if not same(ours, due):
        why = decided.section if decided is not None and fixed else "as recorded"
        tally.wrong.append(f"{row.row_id}: ours {ours!r}, due {due!r} ({why})")


def complaint(name: str, tally: Tally, *, may_be_skipped: bool) -> str:
    """What is wrong with a compared file; empty when nothing is."""
    if tally.wrong:
        return f"{len(tally.wrong)} rows of {name} differ:\n" + "\n".join(tally.wrong[:SHOWN])
    compared = tally.recorded + tally.fixed
    if not compared + tally.skipped:
        return f"{name} has no rows"
    if not compared and not may_be_skipped:
        return f"all rows of {name} are skipped, though it is not on the list of those that may be"
    return ""


def check(adapter: Adapter, path: Path) -> Tally:
    """All rows of a file."""
    tally = Tally()
    for row in read(path):
        compare(adapter, row, tally)
    return tally
