"""Timing in turns, and tables of ratios: only those, within one run, compare between machines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import median
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")

LEAST_S = 0.002
"""Shorter calls are repeated within a repetition until they last about as long: the clock's own cost is below 1 %."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured."""

    what: str
    ratios: dict[str, float]
    """Its median time over that of each baseline, by the baseline's name."""
    n: int
    """Repetitions behind each median."""
    ms: float | None = None
    """The median itself, in milliseconds, where a goal is set for it."""


def parser(docstring: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark, its docstring as help: `--json` and `--quick`."""
    result = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    result.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    return result


def show(benchmark: str, rows: Sequence[Row], as_json: bool) -> None:
    """Print the rows, which have the same baselines, as a table or as one JSON document."""
    if as_json:
        print(json.dumps({"benchmark": benchmark, "rows": [asdict(row) for row in rows]}, allow_nan=False))
        return
    header = [f"{benchmark}: median time of …", *(f"÷ {baseline}" for baseline in rows[0].ratios), "n"]
    cells = [[row.what, *map(_spell, row.ratios.values()), str(row.n)] for row in rows]
    if any(row.ms is not None for row in rows):
        header.append("ms")
        for line, row in zip(cells, rows, strict=True):
            line.append("" if row.ms is None else _spell(row.ms))
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for first, *others in [header, *cells]:
        numbers = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *numbers]))


def in_turn(calls: Sequence[Callable[[], object]], repetitions: int) -> list[float]:
    """Median seconds of each call. They take turns, so that what else the machine does slows all of them alike.

    Every call runs twice before it is timed: to warm up, and to see how short it is.
    """
    times = [ceil(LEAST_S / max(_once(call), 1e-9)) for call in calls]
    rounds = [[_mean(call, k) for call, k in zip(calls, times, strict=True)] for _ in range(repetitions)]
    return [median(column) for column in zip(*rounds, strict=True)]


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds of one call, and its result."""
    start = perf_counter()
    result = call()
    return perf_counter() - start, result


def _once(call: Callable[[], object]) -> float:
    timed(call)
    return timed(call)[0]


def _mean(call: Callable[[], object], times: int) -> float:
    start = perf_counter()
    for _ in range(times):
        call()
    return (perf_counter() - start) / times


def _spell(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
