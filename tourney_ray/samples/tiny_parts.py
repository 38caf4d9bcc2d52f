"""The parts of the tiny pipelines, and how they are taught: all from one seed, on one thread.

Imports torch, diffusers and transformers; `pipelines` imports it when a pipeline has to be made.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers as _diffusers
import torch
import transformers as _transformers
from transformers.utils import logging as transformers_logging

from tourney_ray.evaluation.image.archive import Pair
from tourney_ray.evaluation.image.losses import FAMILIES, plain_attention, read_captions
from tourney_ray.evaluation.image.pictures import pixels_of
from tourney_ray.evaluation.image.pipeline import Pipeline, load_base
from tourney_ray.evaluation.image.prompts import Prompt
from tourney_ray.samples.pictures import SIDE, WORDS, make_pairs

diffusers: Any = _diffusers
transformers: Any = _transformers
"""Both make their names only when asked for them, where no type checker sees it."""

SEED = 7
TOKENS = 16
"""Longest caption."""

WIDTH = 32
"""Of the text encoders."""

LESSONS = {"sdxl": (40, 3e-3), "flux": (60, 4e-3)}
"""Steps and learning rate of the teaching."""

STYLES, EACH, BATCH = 24, 6, 8
"""Styles that are taught, pictures of each, pictures a step."""

NO_CAPTION = 0.2
"""Share of steps without captions, so that the empty one means something."""

VAE_SCALE = 3
"""Levels of the autoencoder: a latent pixel is 4 pixels wide."""


def make_pipeline(model_type: str, folder: Path) -> None:
    """Write the tiny pipeline of that type to `folder`, taught."""
    threads, loudness = torch.get_num_threads(), transformers_logging.get_verbosity()
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            _untaught(model_type).save_pretrained(folder, safe_serialization=True)
            _calibrate(model_type, folder)
            _teach(LESSONS[model_type], folder)
    finally:
        torch.set_num_threads(threads)
        transformers_logging.set_verbosity(loudness)


def _untaught(model_type: str) -> Any:
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * VAE_SCALE, up_block_types=("UpDecoderBlock2D",) * VAE_SCALE,
        block_out_channels=(16, 16, 32), latent_channels=4, norm_num_groups=8, sample_size=SIDE,
        shift_factor=0.0 if model_type == "flux" else None,
    )  # fmt: skip
    first = transformers.CLIPTextModel(_clip())
    if model_type == "flux":
        return diffusers.FluxPipeline(
            diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
            vae, first, _clip_tokenizer(), transformers.T5EncoderModel(_t5()), _t5_tokenizer(), _flux_transformer(),
        )  # fmt: skip
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    second = transformers.CLIPTextModelWithProjection(_clip())
    return diffusers.StableDiffusionXLPipeline(
        vae, first, second, _clip_tokenizer(), _clip_tokenizer(), _unet(), scheduler, add_watermarker=False
    )


def _unet() -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=SIDE // 4, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        attention_head_dim=(2, 4), transformer_layers_per_block=1, use_linear_projection=True,
        cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
    )  # fmt: skip


def _flux_transformer() -> Any:
    return diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=4,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip


def _clip() -> Any:
    vocabulary, _ = _clip_words()
    return transformers.CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=TOKENS, projection_dim=WIDTH, bos_token_id=0, eos_token_id=1,
        pad_token_id=1, initializer_factor=4.0,
    )  # fmt: skip


def _t5() -> Any:
    return transformers.T5Config(
        vocab_size=len(_t5_words()), d_model=WIDTH, d_ff=2 * WIDTH, d_kv=16, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip


def _clip_words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges: letters, and the words of the captions, put together from the left."""
    tokens = [
        "<|startoftext|>",
        "<|endoftext|>",
        *string.ascii_lowercase,
        *(f"{c}</w>" for c in string.ascii_lowercase),
    ]
    merges: list[tuple[str, str]] = []
    for word in sorted(WORDS):
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            merges += [pair] if pair not in merges else []
            parts[:2] = ["".join(pair)]
            tokens += [parts[0]] if parts[0] not in tokens else []
    return {token: number for number, token in enumerate(tokens)}, merges


def _clip_tokenizer() -> Any:
    vocabulary, merges = _clip_words()
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def _t5_words() -> list[tuple[str, float]]:
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return [*special, *((f"▁{word}", -1.0) for word in sorted(WORDS)), *((c, -5.0) for c in string.ascii_lowercase)]


def _t5_tokenizer() -> Any:
    return transformers.T5TokenizerFast(vocab=_t5_words(), extra_ids=0, model_max_length=TOKENS)


def _calibrate(model_type: str, folder: Path) -> None:
    """Give the autoencoder the scale, and in Flux the shift, that make its latents standard."""
    pipeline = load_base(folder)
    with torch.no_grad():
        latents = FAMILIES[pipeline.model_type].encode(pipeline, _pixels(make_pairs(SEED, STYLES)))
    vae: Any = pipeline.vae
    before = vae.config.scaling_factor
    changes = {"scaling_factor": before / float(latents.std())}
    if model_type == "flux":
        changes["shift_factor"] = float(latents.mean()) / before
    vae.register_to_config(**changes)
    vae.save_pretrained(folder / "vae", safe_serialization=True)


def _teach(lessons: tuple[int, float], folder: Path) -> None:
    """Train the whole denoiser on many styles, and save it."""
    pipeline = load_base(folder)
    family = FAMILIES[pipeline.model_type]
    pairs = [pair for style in range(STYLES) for pair in make_pairs(SEED + 1 + style, EACH)]
    with torch.no_grad():
        latents = family.encode(pipeline, _pixels(pairs))
    prompts = read_captions(pipeline, [pair.caption for pair in pairs])
    steps, rate = lessons
    weights = list(pipeline.denoiser.requires_grad_(True).parameters())
    optimiser = torch.optim.Adam(weights, rate)
    chance = random.Random(SEED)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        loss = _lesson(pipeline, latents, pairs, prompts, chance)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
    pipeline.denoiser.save_pretrained(folder / pipeline.component, safe_serialization=True)


def _lesson(
    pipeline: Pipeline, latents: torch.Tensor, pairs: Sequence[Pair], prompts: dict[str, Prompt], chance: random.Random
) -> torch.Tensor:
    chosen = [chance.randrange(len(pairs)) for _ in range(BATCH)]
    captions = ["" if chance.random() < NO_CAPTION else pairs[index].caption for index in chosen]
    prompt = Prompt(
        torch.cat([prompts[caption].words for caption in captions]),
        torch.cat([prompts[caption].whole for caption in captions]),
    )
    moments = [chance.random() for _ in chosen]
    clean = latents[chosen]
    with plain_attention():
        return FAMILIES[pipeline.model_type].objective(pipeline, clean, torch.randn_like(clean), moments, prompt).mean()


def _pixels(pairs: Sequence[Pair]) -> torch.Tensor:
    return torch.cat([pixels_of(pair, SIDE, 8) for pair in pairs])
