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

from tourney_ray.core.evaluations import Device
from tourney_ray.core.models import Evaluated
from tourney_ray.errors import EvaluatorCrashed
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


def set_up(device: Device) -> None:
    """Compute on that device from now on, in the whole process, so that the same checkpoint gives the same number.

    One thread: more are slower on small models and change the last digits. On a GPU, fp32 in full and no kernel that
    adds in another order each time. Raises `EvaluatorCrashed` where torch cannot use one.
    """
    torch.set_num_threads(1)
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise EvaluatorCrashed(
            f"evaluations are to be computed on a GPU, and torch {torch.__version__} can use none here",
            "install torch for this machine's CUDA; `nvidia-smi` shows its GPUs",
        )
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True)
    torch.set_default_device(device)


def environment(batch: int = BATCH) -> dict[str, str]:
    """What the numbers were computed on."""
    return {
        "dtype": "float32",
        "attention": ATTENTION,
        "batch": str(batch),
        "threads": str(torch.get_num_threads()),
        "device": _device(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }


def _device() -> str:
    where = torch.get_default_device()
    return where.type if where.type == "cpu" else f"{where.type}: {torch.cuda.get_device_name(where)}"
