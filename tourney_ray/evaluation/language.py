"""What all text kinds are made of: texts as tokens, and the negative log-likelihood of tokens in one text.

Texts go through the model one at a time, in fp32, so that no number depends on a batch or on a neighbour.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.base_model import Tokenizer

LONGEST = 4096
"""Tokens of a row that any task evaluates at most."""

SHORT_CONTEXT = 2 * LONGEST


def default_sequence_len(max_position: int | None) -> int:
    """Longest row to evaluate, tokens: 4096, or half the context (rounded up) of a model with less than 8192."""
    if max_position is None or max_position >= SHORT_CONTEXT:
        return LONGEST
    return min(LONGEST, math.ceil(max_position / 2))


def token_ids(text: str, tokenizer: Tokenizer, *, special: bool) -> list[int]:
    """Tokens of `text`, however long; with `special` also those that the tokenizer puts around a text."""
    return list(tokenizer.encode(text, add_special_tokens=special, truncation=False, verbose=False))


def eos_of(tokenizer: Tokenizer) -> int:
    """The token that ends a text; raises `ConfigError` for a tokenizer without one."""
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the base model's tokenizer has no end-of-sequence token", "set eos_token in tokenizer_config.json"
        )
    return tokenizer.eos_token_id


def token_losses(model: torch.nn.Module, ids: tuple[int, ...], scored: slice | list[int]) -> torch.Tensor:
    """Shape (scored,): negative log-likelihoods, fp32, nats, of the tokens at positions `scored`, each above 0."""
    tokens = torch.tensor([ids])
    output: Any = model(input_ids=tokens, use_cache=False)
    before = slice(scored.start - 1, -1) if isinstance(scored, slice) else [position - 1 for position in scored]
    return torch.nn.functional.cross_entropy(output.logits[0, before].float(), tokens[0, scored], reduction="none")
