"""Test pictures as tensors: scaled, cropped, and with the noise that belongs to them, the same for every submission.

What is drawn for a picture follows from (task seed, its index) alone, so neither order nor batch matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.image.archive import Pair, open_picture

DRAWS = 10
"""Noises per picture."""


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """A picture of the test set, ready for any number of submissions."""

    caption: str
    pixels: torch.Tensor
    """Shape (1, 3, height, width), RGB in [0, 1]."""
    latents: torch.Tensor
    """Shape (1, channels, height / side, width / side)."""
    noise: torch.Tensor
    """Shape (DRAWS, channels, height / side, width / side), standard normal."""
    moments: tuple[float, ...]
    """Shape (DRAWS,): where in the course of the diffusion, 0 to 1 (excluded), one in each tenth."""


def pixels_of(pair: Pair, long_side: int, multiple: int) -> torch.Tensor:
    """The picture, its long side `long_side` pixels (Lanczos), its middle cropped to multiples; (1, 3, h, w) in [0, 1].

    Raises `ConfigError` for a picture that is too long for that.
    """
    image = open_picture(pair.picture)
    scale = long_side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.LANCZOS)
    width, height = (side - side % multiple for side in size)
    if not width or not height:
        raise ConfigError(
            f"picture {pair.name} is {size[0]} × {size[1]} pixels at this size, less than {multiple} along one side",
            "take it out of the task's data",
        )
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    values = np.asarray(image.crop((left, top, left + width, top + height)), dtype=np.float32) / 255
    return torch.from_numpy(values).permute(2, 0, 1).unsqueeze(0).contiguous().to(torch.get_default_device())


def noise_of(seed: bytes, index: int, shape: Sequence[int]) -> tuple[torch.Tensor, tuple[float, ...]]:
    """Noise of shape (DRAWS, *shape) and the moments of the picture at `index`, by the task's seed."""
    digest = hashlib.sha256(b"picture|" + index.to_bytes(8, "big") + b"|" + seed).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    with torch.device("cpu"):  # the same numbers on any device
        moments = (torch.arange(DRAWS) + torch.rand(DRAWS, generator=generator, dtype=torch.float64)) / DRAWS
        noise = torch.stack([torch.randn(tuple(shape), generator=generator) for _ in range(DRAWS)])
    return noise.to(torch.get_default_device()), tuple(min(moment, 1 - 1e-6) for moment in moments.tolist())
