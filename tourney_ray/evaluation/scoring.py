"""One checkpoint on a warm language model: scan, load, compare, lend, measure. What all kinds of text tasks share.

Imports torch and transformers; `worker` imports it when there is something to evaluate.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from pathlib import Path

import tokenizers
import torch
import transformers

from tourney_ray.core.models import Evaluated
from tourney_ray.evaluation.base_model import ATTENTION, BaseModel
from tourney_ray.evaluation.checkpoint import load, scan
from tourney_ray.evaluation.weights import difference, lent

Measure = Callable[[], tuple[float, ...]]
"""Shape (rows,): one value per test row, of the model as it stands, NaN and infinity too; their mean is the metric."""

BATCH = 1


def score(base: BaseModel, measure: Measure, checkpoint: Path, batch: int = BATCH) -> Evaluated:
    """What `measure` gives while the tensors of `checkpoint` stand in the model; raises `CheckpointInvalid`.

    `batch` is how many rows `measure` reads at once, for the record.
    """
    tensors = load(scan(checkpoint, base.reference), base.reference, base.places)
    change = difference(tensors, base.places)
    with lent(base.places, tensors), torch.inference_mode():
        per_row = measure()
    return Evaluated(
        value=math.fsum(per_row) / len(per_row) if all(map(math.isfinite, per_row)) else math.nan,
        per_row=per_row,
        fine_tuned=change.fine_tuned,
        distance=change.distance,
        digest=change.digest,
        environment=environment(batch),
    )


def set_threads() -> None:
    """One thread: more are slower on small models and change the last digits."""
    torch.set_num_threads(1)


def environment(batch: int = BATCH) -> dict[str, str]:
    """What the numbers were computed on."""
    return {
        "dtype": "float32",
        "attention": ATTENTION,
        "batch": str(batch),
        "threads": str(torch.get_num_threads()),
        "device": "cpu",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }
