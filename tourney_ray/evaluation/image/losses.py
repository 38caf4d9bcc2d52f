"""The two losses of an image task on a warm pipeline: of the denoising itself, and of the denoised picture.

Both are lists over (picture, draw), with the caption and without; `image_loss` of the core makes one number of them.
Pictures are done one after the other, all draws of one together; torch's plain attention only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tourney_ray.evaluation.image import flux, sdxl
from tourney_ray.evaluation.image.archive import Pair
from tourney_ray.evaluation.image.pictures import PreparedPicture, noise_of, pixels_of
from tourney_ray.evaluation.image.pipeline import Pipeline
from tourney_ray.evaluation.image.prompts import Prompt, encode

FAMILIES = {"sdxl": sdxl, "flux": flux}
CROP = 8
"""Sides are multiples of this many pixels, and of the denoiser's own patches."""

Metric = Literal["pixel", "denoising"]


@dataclass(frozen=True, slots=True)
class Losses:
    """Shape (pictures · draws,) each, in the order of the test set."""

    text_guided: tuple[float, ...]
    no_text: tuple[float, ...]


@torch.no_grad()
def prepare(pipeline: Pipeline, pairs: Sequence[Pair], seed: bytes, long_side: int) -> list[PreparedPicture]:
    """The test set for any number of submissions: latents and noise by (seed, index); long side in pixels."""
    family = FAMILIES[pipeline.model_type]
    multiple = max(CROP, pipeline.latent_side * family.PATCH)
    prepared: list[PreparedPicture] = []
    with plain_attention():
        for index, pair in enumerate(pairs):
            pixels = pixels_of(pair, long_side, multiple)
            latents = family.encode(pipeline, pixels)
            noise, moments = noise_of(seed, index, latents.shape[1:])
            prepared.append(PreparedPicture(pair.caption, pixels, latents, noise, moments))
    return prepared


def read_captions(pipeline: Pipeline, captions: Sequence[str]) -> dict[str, Prompt]:
    """The captions and the empty one, encoded."""
    with plain_attention():
        return {caption: encode(pipeline, caption) for caption in dict.fromkeys((*captions, ""))}


@torch.no_grad()
def losses(
    pipeline: Pipeline, test: Sequence[PreparedPicture], prompts: dict[str, Prompt], metric: Metric, batch: int = 10
) -> Losses:
    """The losses of the pipeline as it stands, `batch` draws at a time; a picture's are the same beside any others."""
    one = _denoising if metric == "denoising" else _pixel
    with plain_attention():
        guided = [value for picture in test for value in one(pipeline, picture, prompts, picture.caption, batch)]
        free = [value for picture in test for value in one(pipeline, picture, prompts, "", batch)]
    return Losses(tuple(guided), tuple(free))


def plain_attention() -> AbstractContextManager[None]:
    """Inside, attention is torch's plain formula, whatever kernels a machine has."""
    return cast("AbstractContextManager[None]", sdpa_kernel(SDPBackend.MATH))


def _denoising(
    pipeline: Pipeline, picture: PreparedPicture, prompts: dict[str, Prompt], caption: str, batch: int
) -> list[float]:
    objective = FAMILIES[pipeline.model_type].objective
    values: list[float] = []
    for at in range(0, len(picture.noise), batch):
        noise, moments = picture.noise[at : at + batch], picture.moments[at : at + batch]
        values += objective(pipeline, picture.latents, noise, moments, prompts[caption]).tolist()
    return values


def _pixel(
    pipeline: Pipeline, picture: PreparedPicture, prompts: dict[str, Prompt], caption: str, batch: int
) -> list[float]:
    family = FAMILIES[pipeline.model_type]
    values: list[float] = []
    for noise in picture.noise.split(batch):
        latents = family.redraw(pipeline, picture.latents, noise, prompts[caption], prompts[""])
        error = family.decode(pipeline, latents) - picture.pixels
        values += error.square().mean(dim=(1, 2, 3)).tolist()
    return values
