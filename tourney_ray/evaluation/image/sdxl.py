"""SDXL: how its unet is asked, how it was trained to answer, and how it draws a picture anew."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.image.pipeline import Pipeline
from tourney_ray.evaluation.image.prompts import Prompt

STEPS = 20
GUIDANCE = 8.0
DENOISE = 0.9
"""Share of the steps that is gone through, from that much noise."""

PATCH = 1
"""Latent pixels that the denoiser takes as one, along a side."""


def encode(pipeline: Pipeline, pixels: torch.Tensor) -> torch.Tensor:
    """Latents of pictures in [0, 1]: the mean of the encoder's distribution, scaled."""
    return pipeline.vae.encode(pixels * 2 - 1).latent_dist.mode() * pipeline.vae.config.scaling_factor


def decode(pipeline: Pipeline, latents: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] of latents."""
    return (pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def objective(
    pipeline: Pipeline, latents: torch.Tensor, noise: torch.Tensor, moments: Sequence[float], prompt: Prompt
) -> torch.Tensor:
    """Mean squared error of the predicted noise (or velocity, where the scheduler's base was trained on it).

    Shapes: latents (1, c, h, w), noise (n, c, h, w), moments (n,) of the scheduler's training steps; result (n,).
    """
    levels = pipeline.scheduler.alphas_cumprod.to(noise.device)
    steps = torch.tensor([int(moment * len(levels)) for moment in moments])
    signal, spread = (levels[steps] ** 0.5).view(-1, 1, 1, 1), ((1 - levels[steps]) ** 0.5).view(-1, 1, 1, 1)
    target = _target(pipeline, latents, noise, signal, spread)
    answer = _ask(pipeline, signal * latents + spread * noise, steps, prompt)
    return (answer - target).square().mean(dim=(1, 2, 3))


def redraw(
    pipeline: Pipeline, latents: torch.Tensor, noise: torch.Tensor, prompt: Prompt, empty: Prompt
) -> torch.Tensor:
    """Latents drawn anew from `latents` (1, c, h, w) under `noise` (n, c, h, w), guided by `prompt` against `empty`."""
    with warnings.catch_warnings(), torch.device("cpu"):  # where it keeps its tables
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # diffusers with numpy 2
        scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        scheduler.set_timesteps(STEPS)
    begin = STEPS - min(int(STEPS * DENOISE), STEPS)
    scheduler.set_begin_index(begin)
    steps = scheduler.timesteps[begin:].to(noise.device)
    current = scheduler.add_noise(latents.expand_as(noise), noise, steps[:1].repeat(len(noise)))
    for step in steps:
        seen = scheduler.scale_model_input(current, step)
        answer = _ask(pipeline, seen, step.expand(len(noise)), empty)
        if prompt is not empty:
            answer = answer + GUIDANCE * (_ask(pipeline, seen, step.expand(len(noise)), prompt) - answer)
        current = scheduler.step(answer, step, current).prev_sample
    return current


def _ask(pipeline: Pipeline, noisy: torch.Tensor, steps: torch.Tensor, prompt: Prompt) -> torch.Tensor:
    """The unet's answer; it is told that the picture has its own size and was not cropped."""
    count = len(noisy)
    height, width = (side * pipeline.latent_side for side in noisy.shape[-2:])
    sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32)
    added = {"text_embeds": prompt.whole.expand(count, -1), "time_ids": sizes.expand(count, -1)}
    words = prompt.words.expand(count, -1, -1)
    answer: Any = pipeline.denoiser(noisy, steps, encoder_hidden_states=words, added_cond_kwargs=added)
    return answer.sample


def _target(
    pipeline: Pipeline, latents: torch.Tensor, noise: torch.Tensor, signal: torch.Tensor, spread: torch.Tensor
) -> torch.Tensor:
    match pipeline.scheduler.config.prediction_type:
        case "epsilon":
            return noise
        case "v_prediction":
            return signal * noise - spread * latents
        case other:
            raise ConfigError(
                f"the base pipeline's scheduler predicts {other!r}", "choose one that predicts epsilon or v_prediction"
            )
