"""Flux: how its transformer is asked, how it was trained to answer, and how it draws a picture anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tourney_ray.evaluation.image.pipeline import Pipeline
from tourney_ray.evaluation.image.prompts import Prompt

STEPS = 35
GUIDANCE = 100.0
DENOISE = 0.75
TRAINED_GUIDANCE = 1.0
"""What a guided base is told while it is trained on real pictures: nothing is to be exaggerated."""

PATCH = 2


def encode(pipeline: Pipeline, pixels: torch.Tensor) -> torch.Tensor:
    """Latents of pictures in [0, 1]: the mean of the encoder's distribution, shifted and scaled."""
    vae = pipeline.vae
    return (vae.encode(pixels * 2 - 1).latent_dist.mode() - _shift(pipeline)) * vae.config.scaling_factor


def decode(pipeline: Pipeline, latents: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] of latents."""
    vae = pipeline.vae
    return (vae.decode(latents / vae.config.scaling_factor + _shift(pipeline)).sample / 2 + 0.5).clamp(0, 1)


def objective(
    pipeline: Pipeline, latents: torch.Tensor, noise: torch.Tensor, moments: Sequence[float], prompt: Prompt
) -> torch.Tensor:
    """Mean squared error of the predicted velocity, noise − latents, on the straight way between them.

    Shapes: latents (1, c, h, w), noise (n, c, h, w), moments (n,) are shares of noise; result (n,).
    """
    shares = torch.tensor(moments, dtype=torch.float32)
    way = shares.view(-1, 1, 1, 1)
    answer = _ask(pipeline, (1 - way) * latents + way * noise, shares, prompt, TRAINED_GUIDANCE)
    return (answer - (noise - latents)).square().mean(dim=(1, 2, 3))


def redraw(
    pipeline: Pipeline, latents: torch.Tensor, noise: torch.Tensor, prompt: Prompt, empty: Prompt
) -> torch.Tensor:
    """Latents drawn anew from `latents` (1, c, h, w) under `noise` (n, c, h, w). `empty` plays no part: one pass."""
    patches = noise.shape[-1] * noise.shape[-2] // PATCH**2
    with torch.device("cpu"):  # where it keeps its tables
        scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS), mu=_bend(scheduler.config, patches))
    begin = int(max(STEPS - STEPS * DENOISE, 0))
    scheduler.set_begin_index(begin)
    steps = scheduler.timesteps[begin:].to(noise.device)
    current = scheduler.scale_noise(latents.expand_as(noise), steps[:1].repeat(len(noise)), noise)
    for step in steps:
        answer = _ask(pipeline, current, (step / 1000).expand(len(noise)), prompt, GUIDANCE)
        current = scheduler.step(answer, step, current).prev_sample
    return current


def _ask(
    pipeline: Pipeline, noisy: torch.Tensor, shares: torch.Tensor, prompt: Prompt, guidance: float
) -> torch.Tensor:
    """The transformer's answer, in the shape of `noisy`."""
    count, _, height, width = noisy.shape
    guided = pipeline.denoiser.config.guidance_embeds
    answer: Any = pipeline.denoiser(
        hidden_states=_in_patches(noisy),
        timestep=shares,
        guidance=torch.full((count,), guidance) if guided else None,
        pooled_projections=prompt.whole.expand(count, -1),
        encoder_hidden_states=prompt.words.expand(count, -1, -1),
        txt_ids=torch.zeros(prompt.words.shape[1], 3),
        img_ids=_positions(height // PATCH, width // PATCH),
    )
    return _from_patches(answer.sample, height, width)


def _in_patches(latents: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) as (n, h/2 · w/2, c · 4)."""
    count, channels, height, width = latents.shape
    patches = latents.view(count, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * PATCH**2)


def _from_patches(patches: torch.Tensor, height: int, width: int) -> torch.Tensor:
    count, _, values = patches.shape
    grid = patches.view(count, height // PATCH, width // PATCH, values // PATCH**2, PATCH, PATCH)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(count, -1, height, width)


def _positions(rows: int, columns: int) -> torch.Tensor:
    """Row and column of each patch, shape (patches, 3), the first column empty."""
    grid = torch.zeros(rows, columns, 3)
    grid[..., 1] = torch.arange(rows)[:, None]
    grid[..., 2] = torch.arange(columns)[None, :]
    return grid.view(-1, 3)


def _shift(pipeline: Pipeline) -> float:
    return pipeline.vae.config.shift_factor or 0.0


def _bend(config: Any, patches: int) -> float:
    """How far the steps lean towards noise: more, the more patches there are; linear between two configured sizes."""
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return least + (most - least) * (patches - few) / (many - few)
