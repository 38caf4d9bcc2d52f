"""The DPO loss: mean over pairs of −log σ(0.1 · margin), by which a checkpoint prefers the chosen text to the rejected.

The margin is log π(chosen) − log π(rejected) of the checkpoint, less the same of the base model; an untrained model
scores ln 2. The base model's half is computed once per task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tourney_ray.core.dataset_types import DpoDatasetType
from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.base_model import BaseModel, Tokenizer, load_base
from tourney_ray.evaluation.kinds import Launcher, Score, Test, columns_of
from tourney_ray.evaluation.language import eos_of, token_ids, token_losses
from tourney_ray.evaluation.rows import read_rows, text_of
from tourney_ray.evaluation.scoring import score

__all__ = ["load_base", "prepare"]

BETA = 0.1
LONGEST_PROMPT = 512
"""Tokens at the end of a prompt that are read."""
LONGEST_PAIR = 1024
"""Tokens of a prompt with either completion; pairs with more are dropped."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt and a completion of it, as tokens."""

    ids: tuple[int, ...]
    prompt: int
    """Tokens at the start that are not scored; at least 1, since nothing predicts the first token."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt with the completion that was liked and the one that was not."""

    chosen: Completion
    rejected: Completion


def prepare(base: BaseModel, test: Test, _launch: Launcher | None = None) -> Score:
    """The loss of checkpoints on `test`; raises `ConfigError` when no pair can be scored."""
    rows = read_rows(test.rows)
    longest = min(LONGEST_PAIR, test.sequence_len or LONGEST_PAIR, base.max_position or LONGEST_PAIR)
    pairs = tokenise(rows, columns_of(test, DpoDatasetType), base.tokenizer, longest)
    if not pairs:
        raise ConfigError(
            f"none of {len(rows)} pairs is whole and fits into {longest} tokens", "raise the sequence length"
        )
    reference = preferences(base.model, pairs)
    return partial(score, base, lambda: pair_losses(preferences(base.model, pairs), reference))


def tokenise(
    rows: Sequence[Mapping[str, Any]], columns: DpoDatasetType, tokenizer: Tokenizer, longest: int
) -> list[Pair]:
    """The pairs without an empty text that fit into `longest` tokens, in their order; raises `ConfigError`.

    Texts as they stand, no BOS, EOS after each completion.
    """
    pairs = (_pair(number, row, columns, tokenizer) for number, row in enumerate(rows, start=1))
    return [pair for pair in pairs if pair and max(len(pair.chosen.ids), len(pair.rejected.ids)) <= longest]


def preferences(model: torch.nn.Module, pairs: Iterable[Pair]) -> tuple[float, ...]:
    """Shape (pairs,): log π(chosen) − log π(rejected), each summed over the completion's tokens, nats."""
    with torch.inference_mode():
        return tuple(_log_likelihood(model, pair.chosen) - _log_likelihood(model, pair.rejected) for pair in pairs)


def pair_losses(tuned: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """Shape (pairs,): −log σ(0.1 · (tuned − reference)); may be NaN or infinite."""
    return tuple(_minus_log_sigmoid(BETA * (after - before)) for after, before in zip(tuned, reference, strict=True))


def _pair(number: int, row: Mapping[str, Any], columns: DpoDatasetType, tokenizer: Tokenizer) -> Pair | None:
    prompt, chosen, rejected = (
        text_of(number, row, column) for column in (columns.field_prompt, columns.field_chosen, columns.field_rejected)
    )
    if not (prompt and chosen and rejected):
        return None
    prompt_ids = token_ids(prompt, tokenizer, special=False)[-LONGEST_PROMPT:]
    return Pair(*(_completion(prompt_ids, text, tokenizer) for text in (chosen, rejected)))


def _completion(prompt_ids: list[int], text: str, tokenizer: Tokenizer) -> Completion:
    ids = (*prompt_ids, *token_ids(text, tokenizer, special=False), eos_of(tokenizer))
    return Completion(ids, max(1, len(prompt_ids)))


def _log_likelihood(model: torch.nn.Module, completion: Completion) -> float:
    return -float(token_losses(model, completion.ids, slice(completion.prompt, None)).double().sum())


def _minus_log_sigmoid(margin: float) -> float:
    return max(-margin, 0.0) + math.log1p(math.exp(-abs(margin)))
