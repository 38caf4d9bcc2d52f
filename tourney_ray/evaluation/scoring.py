"""One checkpoint against one task on a warm base model: scan, load, compare, lend, measure.

Imports torch and transformers; `worker` imports it when there is something to evaluate.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch
import transformers

from tourney_ray.core.models import Evaluated
from tourney_ray.errors import CheckpointInvalid, ConfigError
from tourney_ray.evaluation.base_model import ATTENTION, BaseModel, load_base
from tourney_ray.evaluation.checkpoint import load, scan
from tourney_ray.evaluation.language import TokenRow, default_sequence_len, row_losses, tokenise
from tourney_ray.evaluation.rows import Example
from tourney_ray.evaluation.weights import difference, lent

__all__ = ["default_sequence_len", "load_base", "score_instruct"]


def score_instruct(base: BaseModel, checkpoint: Path, examples: Sequence[Example], sequence_len: int) -> Evaluated:
    """The Instruct loss of `checkpoint`, or why it was refused; raises `ConfigError` when no row can be scored."""
    started = time.perf_counter()
    torch.set_num_threads(1)  # more threads are slower on small models and change the last digits
    rows = tokenise(examples, base.tokenizer, sequence_len)
    if not rows:
        raise ConfigError(f"none of {len(examples)} rows fits into {sequence_len} tokens", "raise the sequence length")
    try:
        return _measured(base, checkpoint, rows, started)
    except CheckpointInvalid as error:
        return Evaluated(
            value=math.nan,
            fine_tuned=False,
            refused=error.message,
            environment=environment(),
            seconds=time.perf_counter() - started,
        )


def environment() -> dict[str, str]:
    """What the numbers were computed on."""
    return {
        "dtype": "float32",
        "attention": ATTENTION,
        "batch": "1",
        "threads": str(torch.get_num_threads()),
        "device": "cpu",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }


def _measured(base: BaseModel, checkpoint: Path, rows: Sequence[TokenRow], started: float) -> Evaluated:
    tensors = load(scan(checkpoint, base.reference), base.reference, base.places)
    change = difference(tensors, base.places)
    with lent(base.places, tensors):
        losses = row_losses(base.model, rows)
    return Evaluated(
        value=math.fsum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.nan,
        per_row=losses,
        fine_tuned=change.fine_tuned,
        distance=change.distance,
        digest=change.digest,
        environment=environment(),
        seconds=time.perf_counter() - started,
    )
