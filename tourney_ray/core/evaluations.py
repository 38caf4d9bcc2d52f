"""What is asked of an evaluator's process and what it answers, as records; and whether an answer can be true.

The process reads a stranger's file, so nothing that it says is taken on trust: `contradiction` finds what no honest
evaluator says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from tourney_ray.core.models import Evaluated, TaskData, TaskType
from tourney_ray.core.record import Record

MEAN_TOLERANCE = 1e-9
"""Relative; a sum may be rounded otherwise elsewhere."""

MOST_WORDS = 2000
"""Characters of a refusal's reason."""

MOST_ENVIRONMENT = 64
DIGEST = re.compile(r"[0-9a-f]{64}")


Device = Literal["cpu", "cuda"]
"""Where it is computed: all entrants of a task on the same."""


class Question(Record):
    """One checkpoint to be evaluated."""

    number: int = Field(ge=1)
    """Repeated by the answer."""
    task_type: TaskType
    data: TaskData
    checkpoint: str
    """Absolute path of its folder."""
    seed: str
    """Of the evaluation, hex."""


class Trouble(Record):
    """Why the evaluator cannot tell; the platform's fault."""

    message: str = Field(max_length=MOST_WORDS)
    hint: str = Field(default="", max_length=MOST_WORDS)
    broke_off: bool = False
    """Whether the computation itself failed, as it does for want of memory: as good as the process's death."""


class Reply(Record):
    """The answer to one question: a result or a trouble."""

    number: int
    result: Evaluated | None = None
    trouble: Trouble | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.result is None) is (self.trouble is None):
            raise ValueError("an answer holds either a result or a trouble")
        return self


class NotEvaluated(Record):
    """Why there is no metric of a checkpoint, by the platform's fault."""

    reason: str
    died: bool = False
    """Whether the evaluator's process died while it read the checkpoint."""
    no_sandbox: bool = False
    """Whether nothing can be evaluated here at all: it waits, and is no failure of this evaluation."""


def mean_of(rows: Sequence[float]) -> float:
    """What a metric is of its rows: their mean, NaN where one of them is not finite or there is none."""
    if not rows or not all(map(math.isfinite, rows)):
        return math.nan
    return math.fsum(row / len(rows) for row in rows)  # never beyond the largest number, as the sum may be


def is_mean(value: float, rows: Sequence[float]) -> bool:
    """Whether `value` is the mean of the rows, but for rounding."""
    mean = mean_of(rows)
    return (math.isnan(value) and math.isnan(mean)) or math.isclose(value, mean, rel_tol=MEAN_TOLERANCE)


def contradiction(result: Evaluated) -> str:
    """What of a result no honest evaluator says; empty when nothing is."""
    if not all(map(_is_plain, (result.refused, *result.environment, *result.environment.values()))):
        return "its words are not printable, or too many"
    if len(result.environment) > MOST_ENVIRONMENT:
        return f"its environment has {len(result.environment)} entries"
    return _of_refusal(result) if result.refused else _of_metric(result)


def _of_refusal(result: Evaluated) -> str:
    measured = result.per_row or not math.isnan(result.value) or result.digest
    return "a checkpoint is refused and measured at once" if measured else ""


def _of_metric(result: Evaluated) -> str:
    if not is_mean(result.value, result.per_row):
        return f"its value {result.value!r} is not {mean_of(result.per_row)!r}, the mean of its rows"
    if not DIGEST.fullmatch(result.digest):
        return "its digest is no SHA-256"
    if not result.distance >= 0 or (result.fine_tuned and not result.distance):
        return f"its weights are {result.distance!r} away from the base model's and count as fine-tuned"
    return ""


def _is_plain(text: str) -> bool:
    return len(text) <= MOST_WORDS and text.isprintable()
