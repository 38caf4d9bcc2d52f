"""The base pipeline of an image task: SDXL or Flux, loaded once from the operator's folder, fp32, on the CPU.

Only safetensors from the local folder, every tensor of them accounted for: diffusers would fill a missing one with
noise. The modules are diffusers' and transformers' own; what is done with them is in `sdxl` and `flux`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import diffusers as _diffusers
import torch
import transformers as _transformers
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from tourney_ray.errors import ConfigError, NotFound
from tourney_ray.evaluation.base_model import forbid_kernels
from tourney_ray.evaluation.image.lora_names import Slot, lora_names

diffusers: Any = _diffusers
transformers: Any = _transformers
"""Both make their names only when asked for them, where no type checker sees it."""

ModelType = Literal["sdxl", "flux"]

DENOISERS: Mapping[ModelType, str] = {"sdxl": "unet", "flux": "transformer"}
"""Folder of the model that takes noise away, and what a LoRA's names begin with."""

SCHEDULERS: Mapping[ModelType, tuple[str, ...]] = {
    "sdxl": ("EulerDiscreteScheduler", "DPMSolverMultistepScheduler"),
    "flux": ("FlowMatchEulerDiscreteScheduler",),
}
"""Those that draw no noise of their own."""

ENCODERS = ("text_encoder", "text_encoder_2")
INDEX = "model_index.json"
HINT = "give the folder of a pipeline saved by diffusers with safetensors"


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """One of the two models that read captions, with its tokenizer."""

    tokenizer: Any
    model: Any


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A loaded base pipeline. `places` are the tensors that a LoRA may change, by component and name."""

    model_type: ModelType
    denoiser: Any
    vae: Any
    encoders: tuple[TextEncoder, TextEncoder]
    scheduler: Any
    """As configured; each use makes one of its own from it."""
    places: Mapping[str, torch.Tensor]
    lora: Mapping[str, tuple[Slot, ...]]
    """What each name of a module in a LoRA's file stands for."""

    @property
    def component(self) -> str:
        """Name of the denoiser in `places`."""
        return DENOISERS[self.model_type]

    @property
    def latent_side(self) -> int:
        """Pixels along one side of a latent pixel."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)


def load_base(folder: Path) -> Pipeline:
    """The pipeline in `folder`, fp32, on torch's default device.

    Raises `NotFound` or `ConfigError` when there is none that is usable.
    """
    if not (folder / INDEX).is_file():
        raise NotFound(f"no image pipeline in {folder}: it has no {INDEX}", HINT)
    forbid_kernels()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        model_type = _model_type(index)
        with torch.device("cpu"):  # elsewhere transformers hands them to accelerate
            denoiser = _denoiser(folder, model_type)
            vae = _complete(diffusers.AutoencoderKL, folder / "vae")
            encoders = (_encoder(folder, model_type, 0), _encoder(folder, model_type, 1))
            scheduler = _scheduler(folder, index, model_type)
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
        raise ConfigError(f"the image pipeline in {folder} cannot be loaded: {error}", HINT) from error
    models = {DENOISERS[model_type]: denoiser, **dict(zip(ENCODERS, (one.model for one in encoders), strict=True))}
    for model in (*models.values(), vae):
        model.eval().requires_grad_(False).to(torch.get_default_device())
    return Pipeline(
        model_type, denoiser, vae, encoders, scheduler, _places(model_type, models), lora_names(model_type, models)
    )


def _model_type(index: Mapping[str, Any]) -> ModelType:
    """By the denoiser that the pipeline has."""
    found: list[ModelType] = [kind for kind, component in DENOISERS.items() if component in index]
    if len(found) != 1 or not all(index.get(name) for name in (*ENCODERS, "vae", "scheduler")):
        raise ValueError(f"its {INDEX} is neither SDXL's nor Flux's")
    return found[0]


def _denoiser(folder: Path, model_type: ModelType) -> Any:
    kind = diffusers.UNet2DConditionModel if model_type == "sdxl" else diffusers.FluxTransformer2DModel
    denoiser = _complete(kind, folder / DENOISERS[model_type])
    if model_type == "sdxl" and denoiser.config.addition_embed_type != "text_time":
        raise ValueError("its unet is not SDXL's: addition_embed_type is not text_time")
    return denoiser


def _encoder(folder: Path, model_type: ModelType, place: int) -> TextEncoder:
    second = transformers.CLIPTextModelWithProjection if model_type == "sdxl" else transformers.T5EncoderModel
    kind: Any = (transformers.CLIPTextModel, second)[place]
    model, info = kind.from_pretrained(
        folder / ENCODERS[place], dtype=torch.float32, local_files_only=True, use_safetensors=True,
        attn_implementation="eager", trust_remote_code=False, output_loading_info=True,
    )  # fmt: skip
    _nothing_missing(folder / ENCODERS[place], info)
    where = folder / ("tokenizer", "tokenizer_2")[place]
    reader: Any = transformers.T5TokenizerFast if model_type == "flux" and place else transformers.CLIPTokenizer
    return TextEncoder(reader.from_pretrained(where, local_files_only=True), model)


def _complete(kind: Any, folder: Path) -> Any:
    """A model of diffusers, all of whose tensors are in its files."""
    model, info = kind.from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False,
        output_loading_info=True,
    )  # fmt: skip
    _nothing_missing(folder, info)
    return model


def _nothing_missing(folder: Path, info: Mapping[str, Any]) -> None:
    for what in ("missing_keys", "mismatched_keys"):
        if found := sorted(map(str, info[what])):
            raise ValueError(f"{folder.name} has {what.replace('_', ' ')}: {found[0]}")


def _scheduler(folder: Path, index: Mapping[str, Any], model_type: ModelType) -> Any:
    name = index["scheduler"][1]
    if name not in SCHEDULERS[model_type]:
        raise ValueError(f"its scheduler is {name}; known are {', '.join(SCHEDULERS[model_type])}")
    return getattr(diffusers, name).from_pretrained(folder / "scheduler", local_files_only=True)


def _places(model_type: ModelType, models: Mapping[str, torch.nn.Module]) -> dict[str, torch.Tensor]:
    """A LoRA on Flux changes the denoiser only; one on SDXL the text encoders, too."""
    changed = models if model_type == "sdxl" else {DENOISERS[model_type]: models[DENOISERS[model_type]]}
    return {
        f"{component}.{name}": tensor
        for component, model in changed.items()
        for name, tensor in model.named_parameters()
    }
