"""Whether one checkpoint is better than another by more than chance: a paired bootstrap over the rows of a task.

The resamples follow from a seed by SHAKE-128 and are summed as whole numbers, so everybody who repeats them gets the
same interval, on any machine and any Python.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tourney_ray.core.metrics import Metric
from tourney_ray.core.models import TaskType

RESAMPLES = 10_000
LOWEST = 249
"""Index of the bottom of the 95 % interval among the sorted means: 2.5 % of them lie at it or below."""

HIGHEST = RESAMPLES - 1 - LOWEST
LEAST_ROWS = 2
STEPS = 2**16
"""A row is drawn by 16 bits; of up to 400 rows none is more than 0.7 % likelier than another."""

FINENESS = 2.0**40
"""Steps between 0 and the largest difference of a row."""

UNITS = {
    TaskType.INSTRUCT: "nats",
    TaskType.CHAT: "nats",
    TaskType.DPO: "nats",
    TaskType.GRPO: "of value",
    TaskType.IMAGE: "of loss",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far one checkpoint is ahead of another on the same rows, in the metric's unit, the better the larger."""

    ahead: float
    """Mean over the rows; negative when it is behind."""
    low: float
    """Ends of the 95 % interval of that mean."""
    high: float
    rows: int
    unit: str

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds zero: a tie, as far as these rows can tell."""
        return self.low <= 0 <= self.high

    @property
    def reversed(self) -> Comparison:
        """The second against the first."""
        return Comparison(-self.ahead, -self.high, -self.low, self.rows, self.unit)

    @property
    def words(self) -> str:
        """As verdicts say it."""
        interval = f"95 % interval {self.low:.3g} to {self.high:.3g}, {self.rows} rows"
        side = "ahead" if self.ahead >= 0 else "behind"
        told = f"{side} by {abs(self.ahead):.3g} {self.unit} per row, {interval}"
        return f"within noise: {told}" if self.within_noise else told


def compared(
    metric: Metric, task_type: TaskType, rows: Sequence[float], others: Sequence[float], seed: str
) -> Comparison | None:
    """The first checkpoint against the second, both by row, shape (rows,); None where the rows cannot be paired.

    `seed` is any text: equal texts give equal resamples.
    """
    gains = [metric.gain(other, row) for row, other in zip(rows, others, strict=False)]
    if len(rows) != len(others) or len(gains) < LEAST_ROWS or not all(map(math.isfinite, gains)):
        return None
    widest = max(map(abs, gains))
    unit = widest / FINENESS or 1.0
    sums = _resampled([round(gain / unit) for gain in gains], seed)
    low, high = (sums[i] * unit / len(gains) for i in (LOWEST, HIGHEST))
    return Comparison(math.fsum(gains) / len(gains), low, high, len(gains), UNITS[task_type])


def _resampled(gains: Sequence[int], seed: str) -> list[int]:
    """Sums of as many draws with replacement as there are gains, sorted; shape (resamples,)."""
    count = len(gains)
    bits = hashlib.shake_128(seed.encode()).digest(2 * RESAMPLES * count)
    drawn = [gains[step * count // STEPS] for step in range(STEPS)].__getitem__
    return sorted(sum(map(drawn, draws)) for draws in struct.iter_unpack(f"<{count}H", bits))
