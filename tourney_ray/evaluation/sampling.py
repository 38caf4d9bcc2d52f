"""Completions drawn from a model: temperature 0.9, the 50 likeliest tokens, 256 new ones at most, 2 for each prompt.

A plain loop with a cache of keys and values, so that no library's version changes what is drawn. Every completion has
random numbers of its own, that follow from the task's seed, the prompt's index and the sample's. Prompts go through the
model 16 at a time in the order of their indices, padded on the left: that is part of the definition.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from typing import Any

import torch

SAMPLES = 2
"""Completions of each prompt."""
NEW_TOKENS = 256
BATCH = 16
"""Prompts that go through the model together."""
TEMPERATURE = 0.9
TOP_K = 50

Ids = tuple[int, ...]


def sample(model: torch.nn.Module, prompts: Sequence[Ids], eos: int | None, seed: bytes) -> list[list[Ids]] | None:
    """Shape (prompts, SAMPLES): completions without their EOS; None when the model gives no probabilities somewhere."""
    completions: list[list[Ids]] = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        rows = [prompt for prompt in batch for _ in range(SAMPLES)]
        places = [(start + at, sample) for at in range(len(batch)) for sample in range(SAMPLES)]
        drawn = _complete(model, rows, torch.stack([_randoms(seed, *place) for place in places]), eos)
        if drawn is None:
            return None
        completions += [drawn[at : at + SAMPLES] for at in range(0, len(drawn), SAMPLES)]
    return completions


def choose(logits: torch.Tensor, randoms: torch.Tensor) -> torch.Tensor | None:
    """Shape (rows,): a token for each row of `logits`, shape (rows, vocabulary), by its number of `randoms` in [0, 1).

    The likeliest tokens stand in the order of their ids, so that ties and rounding move no choice far. None when a row
    has no probabilities.
    """
    top, tokens = torch.topk(logits.float() / TEMPERATURE, min(TOP_K, logits.shape[-1]))
    if not bool(torch.isfinite(top[:, 0]).all()) or bool(torch.isnan(top).any()):
        return None
    tokens, order = tokens.sort(dim=-1)
    summed = torch.softmax(top.gather(1, order).double(), dim=-1).cumsum(dim=-1)
    chosen = (summed <= randoms[:, None] * summed[:, -1:]).sum(dim=-1).clamp(max=tokens.shape[-1] - 1)
    return tokens.gather(1, chosen[:, None])[:, 0]


def _randoms(seed: bytes, prompt: int, sample: int) -> torch.Tensor:
    """Shape (NEW_TOKENS,): the numbers in [0, 1) that one completion is drawn with."""
    digest = hashlib.sha256(seed + f"|{prompt}|{sample}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    drawn = torch.rand(NEW_TOKENS, generator=generator, dtype=torch.float64, device="cpu")
    return drawn.to(torch.get_default_device())


def _complete(
    model: torch.nn.Module, prompts: Sequence[Ids], randoms: torch.Tensor, eos: int | None
) -> list[Ids] | None:
    """A completion of each prompt; `randoms` has shape (prompts, NEW_TOKENS)."""
    ids, mask = _padded(prompts)
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    only_last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    drawn: list[torch.Tensor] = []
    cache: Any = None
    for step in range(NEW_TOKENS):
        output: Any = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            **only_last,
        )  # fmt: skip
        tokens = choose(output.logits[:, -1], randoms[:, step])
        if tokens is None:
            return None
        drawn.append(tokens)
        ended |= tokens == eos if eos is not None else ended
        if bool(ended.all()):
            break
        cache, ids, positions = output.past_key_values, tokens[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=-1)
    return [_until(row, eos) for row in torch.stack(drawn, dim=1).tolist()]


def _padded(prompts: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask, shape (prompts, longest); every prompt ends at the right."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def _until(row: list[int], eos: int | None) -> Ids:
    return tuple(row[: row.index(eos)] if eos in row else row)
