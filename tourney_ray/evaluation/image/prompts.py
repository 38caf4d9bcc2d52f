"""Captions as the pipelines' text encoders see them: what a denoiser is told about the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tourney_ray.evaluation.image.pipeline import Pipeline, TextEncoder

T5_TOKENS = 512
"""Longest caption that Flux's T5 reads, tokens."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One caption, encoded."""

    words: torch.Tensor
    """Shape (1, tokens, width): one vector per token."""
    whole: torch.Tensor
    """Shape (1, width): one vector of all of it."""


@torch.no_grad()
def encode(pipeline: Pipeline, caption: str) -> Prompt:
    """The caption (may be empty) for the pipeline's denoiser.

    SDXL: the last but one layer of both encoders side by side, and the second's projection. Flux: T5's last layer, and
    CLIP's pooled output.
    """
    first, second = pipeline.encoders
    if pipeline.model_type == "flux":
        whole = first.model(_tokens(first, caption)).pooler_output
        return Prompt(second.model(_tokens(second, caption, T5_TOKENS))[0], whole)
    layers = [one.model(_tokens(one, caption), output_hidden_states=True) for one in (first, second)]
    return Prompt(torch.cat([layer.hidden_states[-2] for layer in layers], dim=-1), layers[1].text_embeds)


def _tokens(encoder: TextEncoder, caption: str, most: int | None = None) -> torch.Tensor:
    """Token ids, shape (1, tokens), padded to the encoder's full length."""
    length = int(encoder.tokenizer.model_max_length)
    length = min(length, most or length)
    found: Any = encoder.tokenizer(
        caption, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return found.input_ids.to(torch.get_default_device())
