"""The tiny pipelines, an image task for each, and LoRA files to spoil."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.spoiling import write_tensors
from tourney_ray.evaluation.image.archive import packed
from tourney_ray.evaluation.image.pipeline import Pipeline, load_base
from tourney_ray.evaluation.kinds import Test
from tourney_ray.samples.pictures import make_pairs
from tourney_ray.samples.pipelines import ensure_pipeline, image_type

RANK = 4

Tensors = dict[str, torch.Tensor]
WriteLora = Callable[..., Path]


@pytest.fixture(scope="session")
def pipelines() -> Callable[[str], Pipeline]:
    """The loaded tiny pipeline of a type, each loaded once."""
    loaded: dict[str, Pipeline] = {}

    def pipeline(model_type: str) -> Pipeline:
        if model_type not in loaded:
            loaded[model_type] = load_base(ensure_pipeline(model_type))
        return loaded[model_type]

    return pipeline


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two pictures with captions."""
    path = tmp_path / "test.zip"
    path.write_bytes(packed(make_pairs(5, 2)))
    return path


@pytest.fixture
def task_on(archive: Path) -> Callable[..., Test]:
    """The test on the archive for a type of pipeline."""

    def task(model_type: str, seed: bytes = b"\1" * 32, **changes: Any) -> Test:
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        kind = image_type(model_type).model_copy(update=changes)
        return Test(archive, digest, kind, None, seed)

    return task


@pytest.fixture
def write_lora(tmp_path: Path) -> WriteLora:
    """Writes tensors (and metadata) as an output with one LoRA, and gives its folder."""
    numbers = iter(range(1000))

    def write(tensors: Mapping[str, torch.Tensor], **metadata: str) -> Path:
        folder = tmp_path / f"output-{next(numbers)}"
        (folder / "checkpoints").mkdir(parents=True)
        write_tensors(folder / "checkpoints/last.safetensors", tensors, metadata)
        return folder

    return write


@pytest.fixture(scope="session")
def noisy_lora() -> Callable[..., Tensors]:
    """A LoRA of rank 4 with seeded values on modules of a pipeline, in diffusers' names."""

    def lora(pipeline: Pipeline, *modules: str, scale: float = 0.1, seed: int = 0) -> Tensors:
        dice = torch.Generator().manual_seed(seed)
        tensors: Tensors = {}
        for module in modules:
            slots = pipeline.lora[module]
            tensors[f"{module}.lora_A.weight"] = torch.randn(RANK, slots[0].inputs, generator=dice) * scale
            tensors[f"{module}.lora_B.weight"] = torch.randn(slots[-1].last, RANK, generator=dice) * scale
        return tensors

    return lora
