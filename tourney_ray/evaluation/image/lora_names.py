"""What the modules are called in the LoRA files that public trainers write, and which weights that means here.

Three dialects of one model: diffusers (`unet.…`, `transformer.…`), the models' first publications
(`diffusion_model.…`) and sd-scripts (`lora_unet_…`, `lora_te1_…`: dots become underscores). A name that means two
things is left out, so every name that is known is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

ORIGINAL = "diffusion_model."
"""Prefix of the names of the first publication."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Rows `first` to `last` (excluded) of a LoRA's B belong to the whole of the weight `place`."""

    place: str
    first: int
    last: int
    inputs: int
    """Columns of the weight."""


FLUX_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
}
"""Modules of a double block as first published, and diffusers' modules whose rows follow each other in them."""

FLUX_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}

FLUX_AROUND = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
"""The modulation of the last layer is not here: diffusers has its two halves the other way round."""

ENCODER_PREFIXES = {
    "sdxl": {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"},
    "flux": {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te3_"},
}
"""sd-scripts counts CLIP-L 1, CLIP-G 2, T5 3."""


def lora_names(model_type: str, models: Mapping[str, torch.nn.Module]) -> dict[str, tuple[Slot, ...]]:
    """Slots of every name that a LoRA on a pipeline of these components may use for a module.

    Only linear modules have names; the names are without what follows them (`.lora_A.weight`, `.alpha` …).
    """
    known: dict[str, tuple[Slot, ...]] = {}
    twice: set[str] = set()
    for component, model in models.items():
        for name, modules in _dialects(model_type, component, model):
            slots = _slots(component, model, modules)
            if known.setdefault(name, slots) != slots:
                twice.add(name)
    return {name: slots for name, slots in known.items() if name not in twice}


def _dialects(model_type: str, component: str, model: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """All names with the modules that they stand for."""
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    for name in linear:
        yield f"{component}.{name}", (name,)
    if prefix := ENCODER_PREFIXES[model_type].get(component):
        for name in linear:
            # transformers 4 has one level more in CLIP-L, which files still spell
            for spelling in {name, f"text_model.{name.removeprefix('text_model.')}"}:
                yield prefix + spelling.replace(".", "_"), (name,)
                yield f"{component}.{spelling}", (name,)
        return
    for name in linear:
        yield f"lora_unet_{name.replace('.', '_')}", (name,)
    originals = _sdxl_originals(linear, model) if model_type == "sdxl" else _flux_originals(linear)
    for name, modules in originals:
        yield ORIGINAL + name, modules
        yield f"lora_unet_{name.replace('.', '_')}", modules


def _slots(component: str, model: torch.nn.Module, modules: tuple[str, ...]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    row = 0
    for name in modules:
        linear: Any = model.get_submodule(name)
        outputs, inputs = linear.weight.shape
        slots.append(Slot(f"{component}.{name}.weight", row, row + outputs, inputs))
        row += outputs
    return tuple(slots)


def _sdxl_originals(linear: list[str], model: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Attention blocks as the first publication numbers them: its blocks are one list down, one list up."""
    layers = int(model.config.layers_per_block)
    for name in linear:
        if found := re.fullmatch(r"down_blocks\.(\d+)\.attentions\.(\d+)\.(.+)", name):
            block, layer, rest = int(found[1]), int(found[2]), found[3]
            yield f"input_blocks.{1 + block * (layers + 1) + layer}.1.{rest}", (name,)
        elif found := re.fullmatch(r"mid_block\.attentions\.0\.(.+)", name):
            yield f"middle_block.1.{found[1]}", (name,)
        elif found := re.fullmatch(r"up_blocks\.(\d+)\.attentions\.(\d+)\.(.+)", name):
            block, layer, rest = int(found[1]), int(found[2]), found[3]
            yield f"output_blocks.{block * (layers + 1) + layer}.1.{rest}", (name,)


def _flux_originals(linear: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    known = set(linear)
    for theirs, ours, table in (
        ("double_blocks", "transformer_blocks", FLUX_DOUBLE),
        ("single_blocks", "single_transformer_blocks", FLUX_SINGLE),
    ):
        for number in sorted({name.split(".")[1] for name in known if name.startswith(f"{ours}.")}, key=int):
            for module, parts in table.items():
                yield f"{theirs}.{number}.{module}", tuple(f"{ours}.{number}.{part}" for part in parts)
    yield from ((theirs, (ours,)) for theirs, ours in FLUX_AROUND.items() if ours in known)
