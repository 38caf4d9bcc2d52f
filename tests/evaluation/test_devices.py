"""Everything is computed where torch's default device is: tried on `meta`, which has shapes and no numbers."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import masking_utils

from tourney_ray.core.dataset_types import InstructDatasetType
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.errors import EvaluatorCrashed
from tourney_ray.evaluation import sampling
from tourney_ray.evaluation.base_model import BaseModel, load_base
from tourney_ray.evaluation.image.losses import FAMILIES, plain_attention
from tourney_ray.evaluation.image.pictures import noise_of
from tourney_ray.evaluation.image.pipeline import load_base as load_pipeline
from tourney_ray.evaluation.image.prompts import encode
from tourney_ray.evaluation.language import token_losses
from tourney_ray.evaluation.reward import _log_probabilities
from tourney_ray.evaluation.safetensors_file import read_header
from tourney_ray.evaluation.weights import lent
from tourney_ray.evaluation.worker import WarmEvaluator
from tourney_ray.samples.pipelines import ensure_pipeline

META = torch.device("meta")


@pytest.fixture
def elsewhere() -> Generator[None]:
    """A default device that is not the CPU."""
    with torch.device(META):
        yield


@pytest.fixture
def base(files: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> BaseModel:
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda *_: None)  # it asks for numbers
    return load_base(files / "base")


def test_a_model_and_what_is_lent_to_it_lie_there(files: Path, base: BaseModel) -> None:
    assert {tensor.device for tensor in base.places.values()} == {META}
    header = read_header(files / "instruct_full" / "model.safetensors")
    tensors = {name: torch.empty(stored.shape) for name, stored in header.items() if name in base.places}
    with lent(base.places, tensors), torch.inference_mode():
        assert token_losses(base.model, (1, 2, 3, 4), slice(2, None)).device == META


@pytest.mark.parametrize("scored", [slice(2, None), [1, 3]], ids=["answer", "turns"])
def test_the_losses_of_texts_are_computed_there(base: BaseModel, scored: Any) -> None:
    with torch.inference_mode():
        losses = token_losses(base.model, (1, 2, 3, 4, 5), scored)
    assert losses.device == META
    assert _log_probabilities(base.model, (1, 2, 3)).device == META


def test_random_numbers_are_the_same_wherever_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, (noise, moments) = sampling._randoms(b"seed", 1, 0), noise_of(b"seed", 0, (4, 8, 8))
    with torch.device(META):
        assert sampling._randoms(b"seed", 1, 0).device == META
        there, same = noise_of(b"seed", 0, (4, 8, 8))
    assert (there.device, there.shape, same) == (META, noise.shape, moments)
    assert drawn.device.type == noise.device.type == "cpu"


@pytest.mark.parametrize("model_type", list(FAMILIES))
def test_the_losses_of_pictures_are_computed_there(model_type: str, elsewhere: None) -> None:
    pipeline, family = load_pipeline(ensure_pipeline(model_type)), FAMILIES[model_type]
    with torch.no_grad(), plain_attention():
        latents = family.encode(pipeline, torch.rand(1, 3, 64, 64))
        noise, moments = noise_of(b"seed", 0, latents.shape[1:])
        prompt, empty = encode(pipeline, "a red square"), encode(pipeline, "")
        assert family.objective(pipeline, latents, noise, moments, prompt).device == META
        redrawn = family.redraw(pipeline, latents, noise[:2], prompt, empty)
        assert family.decode(pipeline, redrawn).device == META


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_nothing_is_evaluated_on_one(files: Path, task_of: Callable[..., TaskData]) -> None:
    data = task_of("data/instruct_test.json", InstructDatasetType(field_instruction="instruct", field_output="output"))
    with pytest.raises(EvaluatorCrashed, match="can use none here"):
        WarmEvaluator(files, device="cuda").evaluate(TaskType.INSTRUCT, data, files / "instruct_full", bytes(32))
