"""Tensors in memory: read from checked files, compared with the base's, and lent to a warm model.

The base model's tensors are never written to: a submission's stand in their place for the time of one evaluation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.safetensors_file import StoredTensor, open_regular, shown

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}

FINE_TUNED_ABOVE = 1e-6
"""Relative distance of the weights, both rounded to bf16; rounding alone moves nothing."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How a submission's weights differ from the base model's."""

    distance: float
    """‖w − w₀‖ / ‖w₀‖ over all tensors, both rounded to bf16."""
    digest: str
    """SHA-256 over names, shapes and bf16 values in the order of the names."""

    @property
    def fine_tuned(self) -> bool:
        """Whether the weights moved at all."""
        return self.distance > FINE_TUNED_ABOVE


def read_tensor(name: str, stored: StoredTensor) -> torch.Tensor:
    """The tensor in fp32; raises `CheckpointInvalid` when the file is cut short or a value is not finite in fp32."""
    values = bytearray(stored.size)
    with open_regular(stored.path) as file:
        file.seek(stored.start)
        if file.readinto(values) != stored.size:
            raise CheckpointInvalid(f"{shown(stored.path.name)} ends inside of tensor {shown(name)}")
    if not values:
        return torch.empty(stored.shape)
    tensor = torch.frombuffer(values, dtype=DTYPES[stored.dtype]).reshape(stored.shape)
    return finite(name, tensor.to(torch.get_default_device(), torch.float32))


def finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The same tensor; raises `CheckpointInvalid` when a value of it is NaN or infinite."""
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointInvalid(f"tensor {shown(name)} holds values that are not finite")
    return tensor


def difference(tuned: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor]) -> Difference:
    """Distance and digest of `tuned`, which may leave out tensors that are the base's own."""
    digest, moved, length = hashlib.sha256(), 0.0, 0.0
    for name in sorted(base):
        start = base[name].to(torch.bfloat16)
        end = tuned[name].to(torch.bfloat16) if name in tuned else start
        moved += _squared_norm(end.float() - start.float())
        length += _squared_norm(start.float())
        digest.update(f"{name} {list(end.shape)}\n".encode())
        digest.update(end.contiguous().view(torch.int16).cpu().numpy().data)
    return Difference(_ratio(math.sqrt(moved), math.sqrt(length)), digest.hexdigest())


@contextmanager
def lent(places: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> Generator[None]:
    """Inside, the model's `places` hold `tensors`; afterwards what they held before, whatever happened."""
    before = {name: places[name].data for name in tensors}
    try:
        for name, tensor in tensors.items():
            places[name].data = tensor
        yield
    finally:
        for name, tensor in before.items():
            places[name].data = tensor


def _squared_norm(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2


def _ratio(moved: float, length: float) -> float:
    if moved == 0:
        return 0.0
    return moved / length if length else math.inf
