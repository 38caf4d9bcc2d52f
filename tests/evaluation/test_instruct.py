"""The Instruct loss: the independent reference's values, and each rule of the formula by itself."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch

from tourney_ray.core.dataset_types import InstructDatasetType as Columns
from tourney_ray.core.models import Evaluated
from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.base_model import BaseModel
from tourney_ray.evaluation.instruct import TokenRow, row_losses, tokenise
from tourney_ray.evaluation.language import default_sequence_len
from tourney_ray.evaluation.rows import Example, examples, read_dataset_type, read_rows
from tourney_ray.evaluation.scoring import score

BOS, EOS = 1, 2


def score_instruct(base: BaseModel, checkpoint: Path, texts: list[Example], sequence_len: int) -> Evaluated:
    rows = tokenise(texts, base.tokenizer, sequence_len)
    return score(base, lambda: row_losses(base.model, rows), checkpoint)


class Letters:
    """A tokenizer of one token per letter (its code), that puts BOS first as Llama's does."""

    bos_token_id: int | None = BOS
    eos_token_id: int | None = EOS

    def encode(self, text: str, *, add_special_tokens: bool, truncation: bool, verbose: bool) -> list[int]:
        assert add_special_tokens
        assert not truncation
        return [BOS, *(EOS if letter == "$" else ord(letter) for letter in text)]


@pytest.mark.parametrize("name", ["instruct_full", "instruct_full_custom_format"])
def test_the_independent_values(files, base, expected, rows, name: str) -> None:
    want = expected[name]
    texts = examples(rows, Columns.model_validate(want["dataset_type"]))
    got = score_instruct(base, files / want.get("checkpoint", name), texts, want["sequence_len"])
    assert got.value == pytest.approx(want["value"], abs=1e-5)
    assert len(got.per_row) == len(rows)
    assert math.fsum(got.per_row) / len(rows) == pytest.approx(got.value, abs=1e-12)


def test_the_order_of_the_rows_only_orders_per_row(files, base, rows, columns) -> None:
    order = list(range(len(rows)))
    random.Random(7).shuffle(order)
    straight = score_instruct(base, files / "instruct_full", examples(rows, columns), 256)
    mixed = score_instruct(base, files / "instruct_full", examples([rows[at] for at in order], columns), 256)
    assert mixed.per_row == tuple(straight.per_row[at] for at in order)
    assert mixed.value == straight.value


def test_a_row_does_not_depend_on_its_neighbours(base: BaseModel, rows, columns) -> None:
    tokens = tokenise(examples(rows[:6], columns), base.tokenizer, 256)
    assert row_losses(base.model, tokens) == tuple(row_losses(base.model, [row])[0] for row in tokens)


def test_an_untrained_vocabulary_scores_its_logarithm() -> None:
    class Flat(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
            return type("Output", (), {"logits": torch.zeros(*input_ids.shape, 50)})

    assert row_losses(Flat(), [TokenRow(((1, 2, 3), (4, 5)), 1)]) == pytest.approx((math.log(50),))


@pytest.mark.parametrize(
    ("prompt", "answer", "ids", "unscored"),
    [
        ("ab", "cd", [BOS, *b"abcd", EOS], 3),
        ("ab", "cd$", [BOS, *b"abcd", EOS], 3),
        ("", "cd", [BOS, *b"cd", EOS], 1),
        ("ab", "", [BOS, *b"ab", EOS], 3),
        ("abc", "de", [BOS, *b"abcde", EOS], 4),
    ],
)
def test_prompt_and_answer_are_joined(prompt: str, answer: str, ids: list[int], unscored: int) -> None:
    assert tokenise([Example(prompt, answer)], Letters(), 7) == [TokenRow((tuple(ids),), unscored)]


@pytest.mark.parametrize(("prompt", "answer"), [("abcd", "de"), ("abcdefgh", "c"), ("a", "bcdefgh")])
def test_longer_rows_are_dropped(prompt: str, answer: str) -> None:
    kept = Example("a", "b")
    assert len(tokenise([Example(prompt, answer), kept], Letters(), 7)) == 1


def test_a_full_answer_gets_no_eos() -> None:
    class Bare(Letters):
        bos_token_id = None

        def encode(self, text: str, *, add_special_tokens: bool, truncation: bool, verbose: bool) -> list[int]:
            return list(text.encode())

    assert tokenise([Example("", "abcde")], Bare(), 4) == [TokenRow(((*b"abcd",),), 1)]
    assert tokenise([Example("", "")], Bare(), 4) == []


def test_without_an_answer_every_token_counts_in_windows() -> None:
    assert tokenise([Example("abcdefg", None)], Letters(), 4) == [TokenRow(((BOS, *b"abc"), (*b"defg",)), 1)]
    assert tokenise([Example("abc$", None)], Letters(), 9) == [TokenRow(((BOS, *b"abc", EOS),), 1)]


def test_windows_are_one_row(base: BaseModel) -> None:
    texts = examples(
        [{"text": "emma has the white stone. " * 30}], Columns(field_instruction="text", field_output=None)
    )
    (row,) = tokenise(texts, base.tokenizer, 64)
    losses = [row_losses(base.model, [TokenRow((window,), 1)])[0] * (len(window) - 1) for window in row.windows]
    assert len(row.windows) > 2
    assert row_losses(base.model, [row])[0] == pytest.approx(
        sum(losses) / sum(len(window) - 1 for window in row.windows)
    )


def test_a_tokenizer_without_eos_is_an_error() -> None:
    class Endless(Letters):
        eos_token_id = None

    with pytest.raises(ConfigError, match="no end-of-sequence token"):
        tokenise([Example("a", "b")], Endless(), 9)


def test_the_tokenizer_file_is_read_as_it_stands(files: Path, base: BaseModel) -> None:
    text = "Emma's 12345 stones\n\nDON'T e\u0301"
    plain = tokenizers.Tokenizer.from_file(str(files / "base" / "tokenizer.json"))
    ids = base.tokenizer.encode(text, add_special_tokens=True, truncation=False, verbose=False)
    assert ids == plain.encode(text).ids


@pytest.mark.parametrize(
    ("max_position", "length"),
    [(512, 256), (511, 256), (2048, 1024), (8191, 4096), (8192, 4096), (131072, 4096), (None, 4096), (1, 1)],
)
def test_the_default_length(max_position: int | None, length: int) -> None:
    assert default_sequence_len(max_position) == length


@pytest.mark.parametrize(
    ("columns", "row", "prompt"),
    [
        (Columns(), {"instruction": "Sing", "output": "la"}, "Sing"),
        (
            Columns(field_input="input"),
            {"instruction": "Sing", "input": "loud", "output": "la"},
            "Sing loud",
        ),
        (Columns(field_input="input"), {"instruction": "Sing", "input": "", "output": "la"}, "Sing"),
        (Columns(field_input="input"), {"instruction": "Sing", "input": None, "output": "la"}, "Sing"),
        (Columns(field_input="input"), {"instruction": "Sing", "output": "la"}, "Sing"),
        (Columns(system_prompt="Be kind. "), {"instruction": "Sing", "output": "la"}, "Be kind. Sing"),
        (
            Columns(field_system="who", system_prompt="unused", system_format="[{system}]"),
            {"instruction": "Sing", "who": "Bird", "output": "la"},
            "[Bird]Sing",
        ),
        (
            Columns(field_system="who", system_prompt="unused"),
            {"instruction": "Sing", "output": "la"},
            "Sing",
        ),
        (
            Columns(no_input_format="{{{instruction}}}"),
            {"instruction": "{Sing}", "output": "la"},
            "{{Sing}}",
        ),
        (Columns(field_input="n"), {"instruction": "Add", "n": 7, "output": "la"}, "Add 7"),
    ],
)
def test_prompts(columns: Columns, row: dict[str, Any], prompt: str) -> None:
    assert examples([row], columns) == [Example(prompt, "la")]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (Columns(field_instruction="question"), "row 1 has no column 'question'"),
        (Columns(field_output="answer"), "row 1 has no column 'answer'"),
        (Columns(field_input="list"), "row 1, column 'list' is not text"),
        (Columns(format="{instruction} {inptu}"), "asks for more than {input}, {instruction}"),
        (Columns(format="{instruction.__class__}"), "asks for more than"),
        (Columns(format="{instruction:>99999999}"), "asks for more than"),
        (Columns(format="{instruction!r}"), "asks for more than"),
        (Columns(no_input_format="{}"), "asks for more than"),
        (Columns(system_format="{system"), "cannot be read"),
    ],
)
def test_columns_and_formats_that_do_not_fit(columns: Columns, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        examples([{"instruction": "a", "output": "b", "list": [1]}], columns)
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", ["{", "[]", "{}", "[1]", "[" * 100_000])
def test_files_without_rows(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(ConfigError, match=r"rows\.json"):
        read_rows(tmp_path / "rows.json")


@pytest.mark.parametrize("document", ["{", "[]", '{"field_output": 1}', '{"unknown": "x"}'])
def test_dataset_types_that_are_none(document: str) -> None:
    with pytest.raises(ConfigError, match="the dataset type is not valid") as caught:
        read_dataset_type(document, Columns)
    assert "field_instruction" in caught.value.hint


def test_the_default_dataset_type() -> None:
    assert read_dataset_type(None, Columns) == read_dataset_type("{}", Columns) == Columns()


def test_a_dataset_type_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "type.json"
    path.write_text('{"field_output": "answer"}')
    assert read_dataset_type(str(path), Columns) == Columns(field_output="answer")
    with pytest.raises(ConfigError, match="neither a JSON object nor a file of one"):
        read_dataset_type(str(tmp_path / "none.json"), Columns)
