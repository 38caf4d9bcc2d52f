"""One image LoRA against one task on a warm pipeline: find, scan, merge, compare, lend, measure.

The `Scorer` of SDXL and Flux. Imports torch, diffusers and transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import diffusers
import PIL
import torch

from tourney_ray.core.dataset_types import ImageDatasetType
from tourney_ray.core.models import Evaluated
from tourney_ray.core.rules import Rules
from tourney_ray.core.scoring import image_loss
from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.image.archive import read_pairs
from tourney_ray.evaluation.image.lora import merge_lora, scan_lora
from tourney_ray.evaluation.image.lora_folder import find_lora
from tourney_ray.evaluation.image.losses import Losses, Metric, losses, prepare as prepare_pictures, read_captions
from tourney_ray.evaluation.image.pictures import DRAWS, PreparedPicture
from tourney_ray.evaluation.image.pipeline import Pipeline, load_base
from tourney_ray.evaluation.image.prompts import Prompt
from tourney_ray.evaluation.kinds import Launcher, Score, Test, columns_of
from tourney_ray.evaluation.scoring import environment as text_environment
from tourney_ray.evaluation.weights import difference, lent

__all__ = ["load_base", "prepare"]


@dataclass(frozen=True, slots=True)
class ImageTask:
    """What all submissions to one image task share."""

    pipeline: Pipeline
    metric: Metric
    rules: Rules
    test: tuple[PreparedPicture, ...]
    prompts: Mapping[str, Prompt]
    """Of the base's text encoders."""


def prepare(base: Pipeline, test: Test, _launch: Launcher | None = None) -> Score:
    """The image loss of LoRAs on `test`; raises `ConfigError` when the archive is not one for this pipeline."""
    kind = columns_of(test, ImageDatasetType)
    if kind.model_type != base.model_type:
        raise ConfigError(
            f"the task is {kind.model_type}, its base pipeline is {base.model_type}", "prepare the task again"
        )
    pictures = tuple(prepare_pictures(base, read_pairs(test.rows), test.seed, kind.long_side))
    rules = Rules(image_text_guided_share=test.text_guided_share)
    prompts = read_captions(base, [picture.caption for picture in pictures])
    return partial(score, ImageTask(base, kind.metric, rules, pictures, prompts))


def score(task: ImageTask, checkpoint: Path) -> Evaluated:
    """The image loss of the LoRA in `checkpoint`; `per_row` is by picture, then draw. Raises `CheckpointInvalid`."""
    pipeline = task.pipeline
    path = find_lora(checkpoint)
    tensors = merge_lora(scan_lora(path, pipeline.lora), pipeline.places, path)
    change = difference(tensors, pipeline.places)
    with lent(pipeline.places, tensors):
        found = losses(pipeline, task.test, _prompts(task, tensors), task.metric)
    value = image_loss(found.text_guided, found.no_text, task.rules)
    return Evaluated(
        value=value if math.isfinite(value) else math.nan,
        per_row=_rows(found, task.rules),
        fine_tuned=change.fine_tuned,
        distance=change.distance,
        digest=change.digest,
        environment=environment(),
    )


def environment() -> dict[str, str]:
    """What the numbers were computed on."""
    return text_environment(DRAWS) | {
        "attention": "sdpa, math",
        "diffusers": diffusers.__version__,
        "pillow": PIL.__version__,
    }


def _prompts(task: ImageTask, tensors: Mapping[str, torch.Tensor]) -> dict[str, Prompt]:
    """The captions as the submission reads them: the base's reading, unless it changes a text encoder."""
    component = f"{task.pipeline.component}."
    if all(name.startswith(component) for name in tensors):
        return dict(task.prompts)
    return read_captions(task.pipeline, list(task.prompts))


def _rows(found: Losses, rules: Rules) -> tuple[float, ...]:
    """One number per picture and draw, whose mean is the value."""
    return tuple(
        image_loss([guided], [free], rules) for guided, free in zip(found.text_guided, found.no_text, strict=True)
    )
