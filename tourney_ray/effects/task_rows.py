"""Rows of a data set, made fit for a task: as text, each once, and split into training and test rows.

Pure. Guarantee: the same rows, in whatever order, and the same seed give the same split; no test row is a training row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tourney_ray.core.dataset_types import (
    ChatDatasetType,
    DatasetType,
    DpoDatasetType,
    GrpoDatasetType,
    ImageDatasetType,
    InstructDatasetType,
)
from tourney_ray.errors import ConfigError

TEST_SHARE = 10
"""One row in so many becomes a test row,"""
MOST_TEST_ROWS = 400
"""but never more than so many."""

Row = dict[str, Any]
"""The columns that the task names, as text; of a conversation, a list of turns whose parts are text."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns a task reads."""

    needed: tuple[str, ...]
    """Every row has to have them."""
    optional: tuple[str, ...] = ()
    """Some row has to; they are empty where one has not."""
    filled: tuple[str, ...] = ()
    """A row where one of these is empty is left out."""
    conversation: ChatDatasetType | None = None
    """How the only column's turns are spelled, where it is a conversation."""


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of a task."""

    train: list[Row]
    test: list[Row]


def columns_of(dataset_type: DatasetType) -> Columns:
    """The columns that such a task reads; raises `ConfigError` for pictures, which have none."""
    match dataset_type:
        case InstructDatasetType():
            needed = (dataset_type.field_instruction, dataset_type.field_output)
            optional = (dataset_type.field_input, dataset_type.field_system)
            return Columns(tuple(filter(None, needed)), tuple(filter(None, optional)))
        case ChatDatasetType():
            return Columns((dataset_type.chat_column,), conversation=dataset_type)
        case DpoDatasetType():
            fields = (dataset_type.field_prompt, dataset_type.field_chosen, dataset_type.field_rejected)
            return Columns(fields, filled=fields)
        case GrpoDatasetType():
            prompt = (dataset_type.field_prompt,)
            return Columns(prompt, (dataset_type.extra_column,) if dataset_type.extra_column else (), prompt)
        case ImageDatasetType():
            raise ConfigError("pictures come as an archive, not as rows", "name a data set of text")


def as_text(rows: Iterable[Mapping[str, Any]], dataset_type: DatasetType, name: str) -> list[Row]:
    """The rows of the data set `name` with the task's columns alone, as text and each once, in their order.

    Raises `ConfigError` for a row without a column, or with something else than text in it.
    """
    columns = columns_of(dataset_type)
    found, present = dict[bytes, Row](), set[str]()
    for number, row in enumerate(rows, start=1):
        present |= row.keys()
        made = _row(row, columns, f"row {number} of {name}")
        if all(made[column] for column in columns.filled):
            found.setdefault(_digest(made), made)
    if missing := [column for column in columns.optional if column not in present]:
        raise ConfigError(f"no row of {name} has a column {missing[0]!r}", _known(present))
    return list(found.values())


def split(rows: Sequence[Row], seed: bytes, name: str) -> Split:
    """A tenth of the rows to test, at most 400, the others to train, both in an order that `seed` draws.

    Raises `ConfigError` where there are fewer than ten.
    """
    if len(rows) < TEST_SHARE:
        raise ConfigError(f"{name} has {len(rows)} usable rows, a task takes {TEST_SHARE} or more", "add rows to it")
    drawn = sorted(rows, key=lambda row: hashlib.sha256(seed + b"|split|" + _digest(row)).digest())
    tests = min(MOST_TEST_ROWS, len(drawn) // TEST_SHARE)
    return Split(drawn[tests:], drawn[:tests])


def _digest(row: Row) -> bytes:
    """The same for two rows that differ in white space only."""
    return hashlib.sha256(json.dumps(_squeezed(row), sort_keys=True).encode()).digest()


def _squeezed(value: Any) -> Any:
    match value:
        case str():
            return " ".join(value.split())
        case dict():
            return {key: _squeezed(inner) for key, inner in value.items()}
        case _:
            return [_squeezed(inner) for inner in value]


def _row(row: Mapping[str, Any], columns: Columns, where: str) -> Row:
    if missing := [column for column in columns.needed if column not in row]:
        raise ConfigError(f"{where} has no column {missing[0]!r}", _known(row))
    if columns.conversation:
        return {columns.conversation.chat_column: _turns(row, columns.conversation, where)}
    read = (*columns.needed, *columns.optional)
    return {column: _text(row.get(column), f"{where}, column {column!r},") for column in read}


def _turns(row: Mapping[str, Any], kind: ChatDatasetType, where: str) -> list[dict[str, str]]:
    turns = row[kind.chat_column]
    parts = (kind.chat_role_field, kind.chat_content_field)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) and {*parts} <= turn.keys() for turn in turns):
        raise ConfigError(
            f"{where}, column {kind.chat_column!r}, is no list of turns with {parts[0]!r} and {parts[1]!r}",
            "name the columns of the conversations in the catalogue",
        )
    return [{part: _text(turn[part], where) for part in parts} for turn in turns]


def _text(value: Any, where: str) -> str:
    """Nothing for null, the digits of a number, the text of a list or object as JSON."""
    if isinstance(value, bytes):
        raise ConfigError(f"{where} holds bytes, not text", "name columns of text in the catalogue")
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def _known(columns: Iterable[str]) -> str:
    return f"name the columns in the catalogue; there are {', '.join(map(repr, sorted(columns))) or 'none'}"
