"""Lengths of texts in a model's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.token_counts import token_counter
from tourney_ray.samples.task_data import BASE_MODEL


@pytest.mark.parametrize("text", ["", "hello", "Who has the green stone? ä€"])
def test_tokens_are_those_of_the_tokenizer(text: str) -> None:
    expected = Tokenizer.from_file(str(BASE_MODEL / "tokenizer.json")).encode(text, add_special_tokens=False)
    assert token_counter(BASE_MODEL)(text) == len(expected.ids)


@pytest.mark.parametrize("content", [None, "", "{}", "7"])
def test_what_is_no_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        token_counter(tmp_path)
