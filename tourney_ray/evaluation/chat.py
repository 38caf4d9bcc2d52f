"""The Chat loss: mean over rows of the mean negative log-likelihood per scored token of the conversation, in nats.

Scored is what assistants say, and the EOS among the 3 tokens after it. A conversation is tokenised as one text, without
special tokens beyond those that its template writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from tourney_ray.core.dataset_types import ChatDatasetType
from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.base_model import BaseModel, FullTokenizer, load_base
from tourney_ray.evaluation.chat_templates import Conversation, conversations
from tourney_ray.evaluation.kinds import Launcher, Score, Test, columns_of
from tourney_ray.evaluation.language import default_sequence_len, token_losses
from tourney_ray.evaluation.rows import read_rows
from tourney_ray.evaluation.scoring import score

__all__ = ["load_base", "prepare"]

EOS_WITHIN = 3
"""Tokens after an assistant's words among which the EOS that ends them is looked for."""


@dataclass(frozen=True, slots=True)
class ChatRow:
    """A tokenised conversation, and the positions of the tokens that are scored: above 0, ascending, at least one."""

    ids: tuple[int, ...]
    scored: tuple[int, ...]


def prepare(base: BaseModel, test: Test, _launch: Launcher | None = None) -> Score:
    """The loss of checkpoints on `test`; raises `ConfigError` when no row can be scored."""
    columns = columns_of(test, ChatDatasetType)
    texts = conversations(read_rows(test.rows), columns, base.tokenizer.bos_token or "")
    length = test.sequence_len or default_sequence_len(base.max_position)
    rows = tokenise(texts, base.tokenizer, length)
    if not rows:
        raise ConfigError(
            f"none of {len(texts)} conversations has words of an assistant and fits into {length} tokens",
            "raise the sequence length, or check the roles",
        )
    return partial(score, base, lambda: row_losses(base.model, rows))


def tokenise(texts: Sequence[Conversation], tokenizer: FullTokenizer, sequence_len: int) -> list[ChatRow]:
    """The rows that fit into `sequence_len` tokens and have something to score, in their order."""
    rows = [_row(text, tokenizer) for text in texts]
    return [row for row in rows if row.scored and len(row.ids) <= sequence_len]


def row_losses(model: torch.nn.Module, rows: Sequence[ChatRow]) -> tuple[float, ...]:
    """Shape (rows,): mean negative log-likelihood per scored token of each row, nats; may be NaN or infinite."""
    with torch.inference_mode():
        return tuple(float(token_losses(model, row.ids, list(row.scored)).double().mean()) for row in rows)


def _row(text: Conversation, tokenizer: FullTokenizer) -> ChatRow:
    encoded = tokenizer(
        text.text, add_special_tokens=False, truncation=False, verbose=False, return_offsets_mapping=True
    )
    ids: list[int] = encoded["input_ids"]
    spans = _whole_spans(encoded["offset_mapping"])
    scored: set[int] = set()
    for start, end in text.scored:
        scored |= {at for at, (first, last) in enumerate(spans) if first < end and last > start}
        after = next((at for at, (first, _) in enumerate(spans) if first >= end), len(ids))
        following = range(after, min(after + EOS_WITHIN, len(ids)))
        scored |= set([at for at in following if ids[at] == tokenizer.eos_token_id][:1])
    return ChatRow(tuple(ids), tuple(sorted(scored - {0})))


def _whole_spans(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Letters of each token without gaps: tokenizers leave white space out of their offsets, which counts as well."""
    ends = [0]
    for _, end in offsets:
        ends.append(max(ends[-1], end))
    return [(min(start, before), after) for (start, _), (before, after) in zip(offsets, pairwise(ends), strict=True)]
