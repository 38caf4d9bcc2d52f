"""The Instruct loss: mean over rows of the mean negative log-likelihood per scored token of the row, in nats.

Rows go through the model one at a time, in fp32, so that no number depends on a batch or on a neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.base_model import Tokenizer
from tourney_ray.evaluation.rows import Example

LONGEST = 4096
"""Tokens of a row that any task evaluates at most."""

SHORT_CONTEXT = 2 * LONGEST


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A tokenised row: windows that the model reads apart, and how many tokens at the start of each are not scored."""

    windows: tuple[tuple[int, ...], ...]
    unscored: int
    """The prompt's tokens; at least 1, since nothing predicts a window's first token."""


def default_sequence_len(max_position: int | None) -> int:
    """Longest row to evaluate, tokens: 4096, or half the context (rounded up) of a model with less than 8192."""
    if max_position is None or max_position >= SHORT_CONTEXT:
        return LONGEST
    return min(LONGEST, math.ceil(max_position / 2))


def tokenise(examples: Sequence[Example], tokenizer: Tokenizer, sequence_len: int) -> list[TokenRow]:
    """The rows that fit into `sequence_len` tokens and have something to score, in their order."""
    rows = (
        _windows(example.prompt, tokenizer, sequence_len)
        if example.answer is None
        else _prompt_and_answer(example.prompt, example.answer, tokenizer, sequence_len)
        for example in examples
    )
    return [row for row in rows if row is not None]


def row_losses(model: torch.nn.Module, rows: Sequence[TokenRow]) -> tuple[float, ...]:
    """Shape (rows,): mean negative log-likelihood per scored token of each row, nats; may be NaN or infinite."""
    with torch.inference_mode():
        return tuple(_row_loss(model, row) for row in rows)


def _windows(text: str, tokenizer: Tokenizer, sequence_len: int) -> TokenRow | None:
    """Every token counts, however many: a long text is read in windows without overlap."""
    ids = _ids(text, tokenizer)
    ids = ids if ids[-1:] == [tokenizer.eos_token_id] else [*ids, _eos(tokenizer)]
    pieces = [tuple(ids[start : start + sequence_len]) for start in range(0, len(ids), sequence_len)]
    windows = tuple(piece for piece in pieces if len(piece) > 1)
    return TokenRow(windows, unscored=1) if windows else None


def _prompt_and_answer(prompt: str, answer: str, tokenizer: Tokenizer, sequence_len: int) -> TokenRow | None:
    prompt_ids = _ids(prompt, tokenizer)[:sequence_len]
    ids = (*prompt_ids, *_answer_ids(answer, tokenizer, sequence_len))
    unscored = max(1, len(prompt_ids))
    if not unscored < len(ids) <= sequence_len:
        return None
    return TokenRow((ids,), unscored)


def _answer_ids(answer: str, tokenizer: Tokenizer, sequence_len: int) -> list[int]:
    """The answer's tokens, ended by EOS unless it has one or is full, without the BOS that a tokenizer puts first."""
    ids = _ids(answer, tokenizer)[:sequence_len]
    if ids[-1:] != [tokenizer.eos_token_id] and len(ids) < sequence_len:
        ids = [*ids, _eos(tokenizer)]
    leading_bos = tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    return ids[1:] if leading_bos else ids


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    return list(tokenizer.encode(text, truncation=False, verbose=False))


def _eos(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the base model's tokenizer has no end-of-sequence token", "set eos_token in tokenizer_config.json"
        )
    return tokenizer.eos_token_id


def _row_loss(model: torch.nn.Module, row: TokenRow) -> float:
    losses = torch.cat([_token_losses(model, window, row.unscored) for window in row.windows])
    return float(losses.double().mean())


def _token_losses(model: torch.nn.Module, window: tuple[int, ...], unscored: int) -> torch.Tensor:
    ids = torch.tensor([window])
    output: Any = model(input_ids=ids, use_cache=False)
    return torch.nn.functional.cross_entropy(
        output.logits[0, unscored - 1 : -1].float(), ids[0, unscored:], reduction="none"
    )
