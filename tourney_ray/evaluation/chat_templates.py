"""How conversations become text: templates by name, and which letters of the text are scored. Knows no tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tourney_ray.core.dataset_types import ChatDatasetType
from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.rows import text_of

ASSISTANT = "assistant"
USER = "user"
SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says. Roles are `user`, `assistant`, or whatever else the data set has."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as the model reads it."""

    text: str
    scored: tuple[tuple[int, int], ...]
    """First letter and end of what each assistant turn says, in their order."""


Piece = tuple[str, bool]
"""Some text, and whether it is the content of an assistant turn."""

Template = Callable[[Sequence[Turn], str], Iterator[Piece]]
"""Pieces of a conversation, in their order, given the text of the tokenizer's BOS (empty for none)."""


def read_template(name: str) -> Template:
    """The template of that name; raises `ConfigError` for one that is not known."""
    if name not in TEMPLATES:
        raise ConfigError(f"the chat template {name!r} is not known", f"known templates: {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def conversations(rows: Sequence[Mapping[str, Any]], columns: ChatDatasetType, bos: str) -> list[Conversation]:
    """The rows as texts, in their order; raises `ConfigError` for a column or a template that does not fit them."""
    template = read_template(columns.chat_template)
    return [_joined(template(_turns(number, row, columns), bos)) for number, row in enumerate(rows, start=1)]


def _chatml(turns: Sequence[Turn], _bos: str) -> Iterator[Piece]:
    for turn in turns:
        yield f"<|im_start|>{turn.role}\n", False
        yield turn.content, turn.role == ASSISTANT
        yield "<|im_end|>\n", False


def _llama3(turns: Sequence[Turn], bos: str) -> Iterator[Piece]:
    yield bos, False
    for turn in turns:
        yield f"<|start_header_id|>{turn.role}<|end_header_id|>\n\n", False
        yield turn.content.strip(), turn.role == ASSISTANT
        yield "<|eot_id|>", False


def _gemma(turns: Sequence[Turn], bos: str) -> Iterator[Piece]:
    yield bos, False
    for turn in turns:
        if turn.role == SYSTEM:
            raise ConfigError("the chat template 'gemma' has no system turns", "choose another, or leave them out")
        yield f"<start_of_turn>{'model' if turn.role == ASSISTANT else turn.role}\n", False
        yield turn.content.strip(), turn.role == ASSISTANT
        yield "<end_of_turn>\n", False


TEMPLATES: Mapping[str, Template] = {"chatml": _chatml, "llama3": _llama3, "gemma": _gemma}


def _turns(number: int, row: Mapping[str, Any], columns: ChatDatasetType) -> list[Turn]:
    turns = row.get(columns.chat_column)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ConfigError(
            f"row {number} has no list of turns in column {columns.chat_column!r}",
            f"its columns: {', '.join(map(repr, row))}",
        )
    roles = {columns.chat_user_reference: USER, columns.chat_assistant_reference: ASSISTANT}
    read = (
        (text_of(number, turn, columns.chat_role_field), text_of(number, turn, columns.chat_content_field))
        for turn in turns
    )
    return [Turn(roles.get(role, role), content) for role, content in read]


def _joined(pieces: Iterator[Piece]) -> Conversation:
    text, scored = "", list[tuple[int, int]]()
    for piece, is_scored in pieces:
        if is_scored:
            scored.append((len(text), len(text) + len(piece)))
        text += piece
    return Conversation(text, tuple(scored))
