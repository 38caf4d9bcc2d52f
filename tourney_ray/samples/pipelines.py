"""Tiny SDXL and Flux pipelines, made on this machine from a fixed seed and kept in a cache folder between runs.

They have every part of the real ones, in the real layout, and are taught for half a minute what the sample pictures
look like in general; a LoRA then has something to add. Imports torch and diffusers when one is made.
"""

from __future__ import annotations

import hashlib
from functools import partial
from importlib import metadata
from pathlib import Path

from tourney_ray.core.dataset_types import ImageDatasetType
from tourney_ray.effects.file_lock import alone
from tourney_ray.samples.cache import cache_folder, kept

MODEL_TYPES = ("sdxl", "flux")
LONG_SIDE = 64
"""Pixels that these pipelines are made for."""

RECIPES = ("tiny_parts.py", "pipelines.py", "pictures.py")
LIBRARIES = ("torch", "diffusers", "transformers")


def model_id(model_type: str) -> str:
    """The contract's `--model`."""
    return f"tourney/tiny-{model_type}"


def ensure_pipeline(model_type: str, cache: Path | None = None) -> Path:
    """The folder of the tiny pipeline of that type, made when `cache` does not have it. Raises `StorageUnavailable`."""
    folder = (cache or cache_folder()) / "pipelines" / f"tiny-{model_type}-{_key()}"
    if folder.is_dir():
        return folder
    with alone(folder.parent / f".{folder.name}.lock"):
        return kept(folder, partial(_make, model_type))


def image_type(model_type: str) -> ImageDatasetType:
    """How tasks on a tiny pipeline are measured: by the denoising loss, the only one that ranks trainings here."""
    return ImageDatasetType.model_validate({"model_type": model_type, "metric": "denoising", "long_side": LONG_SIDE})


def _key() -> str:
    """Changes with everything that a pipeline follows from."""
    texts = [(Path(__file__).parent / name).read_bytes() for name in RECIPES]
    versions = [f"{name} {metadata.version(name)}".encode() for name in LIBRARIES]
    return hashlib.sha256(b"\n".join((*texts, *versions))).hexdigest()[:16]


def _make(model_type: str, folder: Path) -> None:
    from tourney_ray.samples.tiny_parts import make_pipeline

    make_pipeline(model_type, folder)
