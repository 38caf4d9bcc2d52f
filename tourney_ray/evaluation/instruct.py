"""The Instruct loss: mean over rows of the mean negative log-likelihood per scored token of the row, in nats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from tourney_ray.core.dataset_types import InstructDatasetType
from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.base_model import BaseModel, Tokenizer, load_base
from tourney_ray.evaluation.kinds import Launcher, Score, Test, columns_of
from tourney_ray.evaluation.language import default_sequence_len, eos_of, token_ids, token_losses
from tourney_ray.evaluation.rows import Example, examples, read_rows
from tourney_ray.evaluation.scoring import score

__all__ = ["load_base", "prepare"]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A tokenised row: windows that the model reads apart, and how many tokens at the start of each are not scored."""

    windows: tuple[tuple[int, ...], ...]
    unscored: int
    """The prompt's tokens; at least 1, since nothing predicts a window's first token."""


def prepare(base: BaseModel, test: Test, _launch: Launcher | None = None) -> Score:
    """The loss of checkpoints on `test`; raises `ConfigError` when no row can be scored."""
    texts = examples(read_rows(test.rows), columns_of(test, InstructDatasetType))
    length = test.sequence_len or default_sequence_len(base.max_position)
    rows = tokenise(texts, base.tokenizer, length)
    if not rows:
        raise ConfigError(f"none of {len(texts)} rows fits into {length} tokens", "raise the sequence length")
    return partial(score, base, lambda: row_losses(base.model, rows))


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
    ids = token_ids(text, tokenizer, special=True)
    ids = ids if ids[-1:] == [tokenizer.eos_token_id] else [*ids, eos_of(tokenizer)]
    pieces = [tuple(ids[start : start + sequence_len]) for start in range(0, len(ids), sequence_len)]
    windows = tuple(piece for piece in pieces if len(piece) > 1)
    return TokenRow(windows, unscored=1) if windows else None


def _prompt_and_answer(prompt: str, answer: str, tokenizer: Tokenizer, sequence_len: int) -> TokenRow | None:
    prompt_ids = token_ids(prompt, tokenizer, special=True)[:sequence_len]
    ids = (*prompt_ids, *_answer_ids(answer, tokenizer, sequence_len))
    unscored = max(1, len(prompt_ids))
    if not unscored < len(ids) <= sequence_len:
        return None
    return TokenRow((ids,), unscored)


def _answer_ids(answer: str, tokenizer: Tokenizer, sequence_len: int) -> list[int]:
    """The answer's tokens, ended by EOS unless it has one or is full, without the BOS that a tokenizer puts first."""
    ids = token_ids(answer, tokenizer, special=True)[:sequence_len]
    if ids[-1:] != [tokenizer.eos_token_id] and len(ids) < sequence_len:
        ids = [*ids, eos_of(tokenizer)]
    leading_bos = tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    return ids[1:] if leading_bos else ids


def _row_loss(model: torch.nn.Module, row: TokenRow) -> float:
    scored = slice(row.unscored, None)
    losses = torch.cat([token_losses(model, window, scored) for window in row.windows])
    return float(losses.double().mean())
