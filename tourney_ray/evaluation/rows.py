"""Test rows as text: what is read to a model and what it is scored on, by the task's dataset type. Knows no tokens."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tourney_ray.core.dataset_types import DatasetType, InstructDatasetType
from tourney_ray.errors import ConfigError, NotFound

FORMAT = "{instruction} {input}"
NO_INPUT_FORMAT = "{instruction}"


@dataclass(frozen=True, slots=True)
class Example:
    """One row: the prompt as the model reads it, and the answer that is scored; without one, all of the text is."""

    prompt: str
    answer: str | None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows in a JSON list of objects, in its order; raises `NotFound` or `ConfigError`."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"no file with rows at {path}", "give the path of a JSON list of objects") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not sound JSON: {error}", "rows are one JSON list of objects") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path} holds no rows", "rows are one JSON list of objects, at least one")
    return rows


def read_dataset_type(
    document: str | None, model: type[DatasetType], told: Mapping[str, str] | None = None
) -> DatasetType:
    """What a JSON document, or a file of one, says of the data set, the defaults for none; raises `ConfigError`.

    `told` are fields that are known without it, and that it may not contradict.
    """
    try:
        found = model.model_validate_json(_completed(_document(document) if document else "{}", told or {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ConfigError(
            f"the dataset type is not valid: {where}: {first['msg']}",
            f"known fields: {', '.join(model.model_fields)}",
        ) from error
    for field, value in (told or {}).items():
        if getattr(found, field) != value:
            raise ConfigError(f"the dataset type says {field} {getattr(found, field)!r}, asked was for {value!r}")
    return found


def _completed(text: str, told: Mapping[str, str]) -> str:
    """The JSON object with what it leaves out of `told`; anything else as it is, for whoever validates it."""
    try:
        document = json.loads(text)
    except ValueError:
        return text
    return json.dumps({**told, **document}) if isinstance(document, dict) else text


def _document(text: str) -> str:
    if text.lstrip().startswith(("{", "[")):
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the dataset type is neither a JSON object nor a file of one: {text[:100]!r}", "begin the object with {"
        ) from error


def examples(rows: Sequence[Mapping[str, Any]], columns: InstructDatasetType) -> list[Example]:
    """The rows as texts, in their order; raises `ConfigError` for a column or a format that does not fit them."""
    _check_format(columns.system_format, {"system"})
    _check_format(columns.format or FORMAT, {"instruction", "input"})
    _check_format(columns.no_input_format or NO_INPUT_FORMAT, {"instruction"})
    return [_example(number, row, columns) for number, row in enumerate(rows, start=1)]


def _example(number: int, row: Mapping[str, Any], columns: InstructDatasetType) -> Example:
    instruction = text_of(number, row, columns.field_instruction)
    if columns.field_output is None:
        return Example(instruction, None)
    answer = text_of(number, row, columns.field_output)
    return Example(_system(number, row, columns) + _prompt(number, row, columns, instruction), answer)


def _system(number: int, row: Mapping[str, Any], columns: InstructDatasetType) -> str:
    """The row's own system text where a column is named for it and present, else the task's."""
    system = "" if columns.field_system else columns.system_prompt
    if columns.field_system and columns.field_system in row:
        system = text_of(number, row, columns.field_system)
    return columns.system_format.format(system=system) if system else ""


def _prompt(number: int, row: Mapping[str, Any], columns: InstructDatasetType, instruction: str) -> str:
    column = columns.field_input
    given = text_of(number, row, column) if column and column in row else ""
    if given:
        return (columns.format or FORMAT).format(instruction=instruction, input=given)
    return (columns.no_input_format or NO_INPUT_FORMAT).format(instruction=instruction)


def text_of(number: int, row: Mapping[str, Any], column: str) -> str:
    """The column as text: nothing for null, the digits of a number; raises `ConfigError` when there is none.

    `number` is the row's, counted from 1.
    """
    if column not in row:
        raise ConfigError(f"row {number} has no column {column!r}", f"its columns: {', '.join(map(repr, row))}")
    value = row[column]
    if isinstance(value, dict | list):
        raise ConfigError(
            f"row {number}, column {column!r} is not text", "name a column of plain text in the dataset type"
        )
    return "" if value is None else str(value)


def _check_format(template: str, known: set[str]) -> None:
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"the format {template!r} cannot be read: {error}", "write {{ and }} for braces") from error
    names = {name for _, name, spec, conversion in pieces if name is not None and not spec and not conversion}
    if not names <= known or any(spec or conversion for _, _, spec, conversion in pieces):
        places = ", ".join(f"{{{name}}}" for name in sorted(known))
        raise ConfigError(f"the format {template!r} asks for more than {places}", "write {{ and }} for braces")
