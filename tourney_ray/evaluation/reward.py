"""The GRPO value: Σ wᵢ·rᵢ − 0.5·KL of completions that the checkpoint is made to write; the higher, the better.

rᵢ is the mean raw reward of function i, clipped to and scaled by the range that the task gives for it. KL is KL(base ‖
checkpoint) of the next token's probabilities, in fp32: the mean over prompts of the mean over a prompt's tokens, in
nats. Its base half is computed once per task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tourney_ray.core.dataset_types import GrpoDatasetType, RewardFunction
from tourney_ray.errors import ConfigError, EvaluatorCrashed
from tourney_ray.evaluation.base_model import BaseModel, FullTokenizer, load_base
from tourney_ray.evaluation.kinds import Launcher, Score, Test, columns_of
from tourney_ray.evaluation.language import token_ids
from tourney_ray.evaluation.reward_process import Limits, NamedReward, read_function, run_function
from tourney_ray.evaluation.rows import read_rows, text_of
from tourney_ray.evaluation.sampling import BATCH, NEW_TOKENS, SAMPLES, Ids, sample
from tourney_ray.evaluation.scoring import score
from tourney_ray.evaluation.weights import lent

__all__ = ["load_base", "prepare"]

KL_WEIGHT = 0.5
LONGEST_PROMPT = 512
"""Tokens at the end of a prompt that are read."""
KEPT_BYTES = 256 * 2**20
"""Of the base model's log-probabilities; those of the prompts beyond are computed again for every checkpoint."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One test row, tokenised."""

    ids: Ids
    extra: Any
    """What reward functions get beside its completions."""


def prepare(base: BaseModel, test: Test, launch: Launcher | None = None) -> Score:
    """The value of checkpoints on `test`; raises `ConfigError` for prompts or functions that cannot be used."""
    columns = columns_of(test, GrpoDatasetType)
    if launch is None:
        raise ConfigError(
            "reward functions run without network, and this evaluator was not told how to start them so",
            "give it a launcher",
        )
    functions = [read_function(at, it.reward_func) for at, it in enumerate(columns.reward_functions, start=1)]
    prompts = tokenise(read_rows(test.rows), columns, base.tokenizer, longest_prompt(base, test.sequence_len))
    reference = Reference(base, prompts)

    def measure() -> tuple[float, ...]:
        completions = sample(base.model, [prompt.ids for prompt in prompts], base.tokenizer.eos_token_id, test.seed)
        if completions is None:
            return (math.nan,) * len(prompts)
        texts = [[_text(base.tokenizer, ids) for ids in group] for group in completions]
        extra = columns.extra_column is not None
        raw = [raw_rewards(function, prompts, texts, launch, extra=extra) for function in functions]
        return values(columns.reward_functions, raw, reference.divergences())

    return partial(score, base, measure, batch=BATCH)


def longest_prompt(base: BaseModel, sequence_len: int | None) -> int:
    """Tokens of a prompt that are read; raises `ConfigError` for a base model without room for a completion."""
    room = base.max_position - NEW_TOKENS if base.max_position else LONGEST_PROMPT
    if room < 1:
        raise ConfigError(
            f"the base model reads {base.max_position} tokens, too few for a prompt and {NEW_TOKENS} new ones",
            "choose another base model for GRPO tasks",
        )
    return min(LONGEST_PROMPT, room, sequence_len or LONGEST_PROMPT)


def tokenise(
    rows: Sequence[Mapping[str, Any]], columns: GrpoDatasetType, tokenizer: FullTokenizer, longest: int
) -> list[Prompt]:
    """The last `longest` tokens of each prompt that has any, without BOS; raises `ConfigError` when none has."""
    read = [_prompt(number, row, columns, tokenizer, longest) for number, row in enumerate(rows, start=1)]
    prompts = [prompt for prompt in read if prompt.ids]
    if not prompts:
        raise ConfigError(f"all of {len(rows)} prompts are empty", f"check the column {columns.field_prompt!r}")
    return prompts


def raw_rewards(
    function: NamedReward, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], launch: Launcher, *, extra: bool
) -> list[float]:
    """Shape (prompts,): mean raw reward of each prompt's completions; raises `EvaluatorCrashed`."""
    completions = [text for group in texts for text in group]
    extra_data = [prompt.extra for prompt in prompts for _ in range(SAMPLES)] if extra else None
    rewards = run_function(function, completions, extra_data, launch, Limits())
    return [math.fsum(rewards[at : at + SAMPLES]) / SAMPLES for at in range(0, len(rewards), SAMPLES)]


def values(
    functions: Sequence[RewardFunction], raw: Sequence[Sequence[float]], divergences: Sequence[float]
) -> tuple[float, ...]:
    """Shape (prompts,): numbers whose mean is Σ wᵢ·rᵢ − 0.5·KL; `raw` has shape (functions, prompts).

    The mean reward of a function is what is clipped, so where it is, all of its prompts move by the same amount.
    """
    scaled = [_scaled(function, rewards) for function, rewards in zip(functions, raw, strict=True)]
    return tuple(
        math.fsum(function.reward_weight * rewards[at] for function, rewards in zip(functions, scaled, strict=True))
        - KL_WEIGHT * divergence
        for at, divergence in enumerate(divergences)
    )


class Reference:
    """The base model's log-probabilities over the prompts: kept as far as they fit, else computed again."""

    def __init__(self, base: BaseModel, prompts: Sequence[Prompt]) -> None:
        self._base = base
        self._prompts = prompts
        self._own = {name: tensor.data for name, tensor in base.places.items()}
        self._kept: list[torch.Tensor] = []
        left = KEPT_BYTES
        for prompt in prompts:
            own = _log_probabilities(base.model, prompt.ids)
            left -= own.numel() * own.element_size()
            if left < 0:
                break
            self._kept.append(own)

    def divergences(self) -> list[float]:
        """Shape (prompts,): KL(base ‖ model as it stands) over each prompt's tokens, mean, nats; may be NaN."""
        return [
            divergence(self._of(at), _log_probabilities(self._base.model, prompt.ids))
            for at, prompt in enumerate(self._prompts)
        ]

    def _of(self, at: int) -> torch.Tensor:
        if at < len(self._kept):
            return self._kept[at]
        with lent(self._base.places, self._own):
            return _log_probabilities(self._base.model, self._prompts[at].ids)


def divergence(base: torch.Tensor, tuned: torch.Tensor) -> float:
    """KL(base ‖ tuned), mean over tokens, of log-probabilities of shape (tokens, vocabulary), nats."""
    likely = base.exp()
    terms = torch.where(likely > 0, likely * (base - tuned), 0.0)
    return float(terms.sum(dim=-1).double().mean())


def _log_probabilities(model: torch.nn.Module, ids: Ids) -> torch.Tensor:
    """Shape (tokens, vocabulary), fp32: what the model expects after each of `ids`."""
    with torch.inference_mode():
        output: Any = model(input_ids=torch.tensor([ids]), use_cache=False)
        return torch.log_softmax(output.logits[0].float(), dim=-1)


def _prompt(
    number: int, row: Mapping[str, Any], columns: GrpoDatasetType, tokenizer: FullTokenizer, longest: int
) -> Prompt:
    ids = token_ids(text_of(number, row, columns.field_prompt), tokenizer, special=False)[-longest:]
    if columns.extra_column is not None and columns.extra_column not in row:
        raise ConfigError(
            f"row {number} has no column {columns.extra_column!r}", f"its columns: {', '.join(map(repr, row))}"
        )
    return Prompt(tuple(ids), row.get(columns.extra_column) if columns.extra_column else None)


def _text(tokenizer: FullTokenizer, ids: Ids) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _scaled(function: RewardFunction, rewards: Sequence[float]) -> list[float]:
    """The rewards on the scale of the function's range, moved so that their mean lies in it."""
    try:
        mean = math.fsum(rewards) / len(rewards)
    except OverflowError as error:
        raise EvaluatorCrashed("the rewards of a function are too large to be added up", "correct it") from error
    moved = min(max(mean, function.low), function.high) - mean
    return [(reward + moved - function.low) / (function.high - function.low) for reward in rewards]
