"""The Chat loss: what of a conversation is scored, by which template, and numbers computed by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import transformers

from tourney_ray.core.dataset_types import ChatDatasetType as Columns
from tourney_ray.core.models import TaskType
from tourney_ray.errors import ConfigError, EvaluatorCrashed
from tourney_ray.evaluation.base_model import BaseModel
from tourney_ray.evaluation.chat import ChatRow, row_losses, tokenise
from tourney_ray.evaluation.chat_templates import Conversation, conversations
from tourney_ray.evaluation.rows import read_rows
from tourney_ray.evaluation.worker import WarmEvaluator

SEED = bytes(32)
EOS = 2
TURNS = [
    {"from": "system", "value": "Be kind."},
    {"from": "user", "value": "Hello?"},
    {"from": "assistant", "value": " Good day. "},
]


class Letters:
    """A tokenizer of one token per letter (its code); `$` is EOS."""

    bos_token_id: int | None = None
    bos_token: str | None = None
    eos_token_id: int | None = EOS

    def encode(self, text: str, *, add_special_tokens: bool, truncation: bool, verbose: bool) -> list[int]:
        raise NotImplementedError

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        raise NotImplementedError

    def __call__(
        self, text: str, *, add_special_tokens: bool, truncation: bool, verbose: bool, return_offsets_mapping: bool
    ) -> Mapping[str, Any]:
        assert not add_special_tokens
        ids = [EOS if letter == "$" else ord(letter) for letter in text]
        return {"input_ids": ids, "offset_mapping": [(at, at + 1) for at in range(len(ids))]}


def read(base: BaseModel, row: ChatRow) -> str:
    ids = [row.ids[at] for at in row.scored]
    return base.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "chatml",
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello?<|im_end|>\n"
            "<|im_start|>assistant\n Good day. <|im_end|>\n",
        ),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHello?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nGood day.<|eot_id|>",
        ),
    ],
)
def test_templates(template: str, text: str) -> None:
    (got,) = conversations([{"conversations": TURNS}], Columns(chat_template=template), "<s>")
    assert got.text == text
    ((start, end),) = got.scored
    assert got.text[start:end].strip() == "Good day."


def test_gemma_calls_the_assistant_model_and_has_no_system() -> None:
    (got,) = conversations([{"conversations": TURNS[1:]}], Columns(chat_template="gemma"), "<bos>")
    assert got.text == ("<bos><start_of_turn>user\nHello?<end_of_turn>\n<start_of_turn>model\nGood day.<end_of_turn>\n")
    with pytest.raises(ConfigError, match="'gemma' has no system turns"):
        conversations([{"conversations": TURNS}], Columns(chat_template="gemma"), "<bos>")


def test_an_unknown_template_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="'alpaca2' is not known") as caught:
        conversations([{"conversations": TURNS}], Columns(chat_template="alpaca2"), "")
    assert "chatml" in caught.value.hint


def test_columns_are_mapped() -> None:
    columns = Columns(
        chat_column="talk",
        chat_role_field="who",
        chat_content_field="says",
        chat_user_reference="human",
        chat_assistant_reference="gpt",
    )
    row = {"talk": [{"who": "human", "says": "Hi"}, {"who": "gpt", "says": 7}, {"who": "tool", "says": None}]}
    (got,) = conversations([row], columns, "")
    assert got.text == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n7<|im_end|>\n<|im_start|>tool\n<|im_end|>\n"
    )
    assert [got.text[start:end] for start, end in got.scored] == ["7"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"talk": TURNS}, "row 1 has no list of turns in column 'conversations'"),
        ({"conversations": "Hello"}, "row 1 has no list of turns"),
        ({"conversations": ["Hello"]}, "row 1 has no list of turns"),
        ({"conversations": [{"from": "user"}]}, "row 1 has no column 'value'"),
        ({"conversations": [{"from": "user", "value": ["a"]}]}, "column 'value' is not text"),
    ],
)
def test_rows_that_are_no_conversations(row: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        conversations([row], Columns(), "")


@pytest.mark.parametrize(
    "said",
    ["bread bread.", " two  spaces ", "ends with a line\n", "\n\nbegins so", "café 🙂 naïve", "\t", "a!<", "𝔘𝔫𝔦"],
)
def test_all_that_assistants_say_is_scored_and_nothing_else(base: BaseModel, said: str) -> None:
    turns = [
        {"from": "user", "value": "bread?"},
        {"from": "assistant", "value": said},
        {"from": "user", "value": "more"},
        {"from": "assistant", "value": "no."},
    ]
    (row,) = tokenise(conversations([{"conversations": turns}], Columns(), ""), base.tokenizer, 256)
    assert read(base, row) == said + "no."


def test_the_eos_that_ends_an_answer_is_scored(files: Path, base: BaseModel) -> None:
    texts = conversations([{"conversations": TURNS[1:] + TURNS[1:]}], Columns(), "")
    (plain,) = tokenise(texts, base.tokenizer, 256)
    assert read(base, plain) == " Good day.  Good day. "
    tokenizer: Any = transformers.PreTrainedTokenizerFast.from_pretrained(files / "base", eos_token="<|im_end|>")
    (ended,) = tokenise(texts, tokenizer, 256)
    assert read(base, ended) == " Good day. <|im_end|> Good day. <|im_end|>"


@pytest.mark.parametrize(
    ("text", "scored"),
    [("uaa$", (1, 2, 3)), ("uaaxx$", (1, 2, 5)), ("uaaxxx$", (1, 2)), ("uaa$$", (1, 2, 3)), ("uaa", (1, 2))],
)
def test_eos_counts_within_three_tokens_and_once(text: str, scored: tuple[int, ...]) -> None:
    (row,) = tokenise([Conversation(text, ((1, 3),))], Letters(), 9)
    assert row.scored == scored


def test_an_empty_answer_is_only_its_eos() -> None:
    (row,) = tokenise([Conversation("ab$", ((2, 2),))], Letters(), 9)
    assert row.scored == (2,)


def test_the_first_token_is_never_scored_since_nothing_predicts_it() -> None:
    (row,) = tokenise([Conversation("abc", ((0, 3),))], Letters(), 9)
    assert row.scored == (1, 2)


@pytest.mark.parametrize("text", [Conversation("abcd", ()), Conversation("abcdefghij", ((1, 3),))])
def test_rows_that_are_too_long_or_have_no_answer_are_dropped(text: Conversation) -> None:
    assert len(tokenise([text, Conversation("abc", ((1, 3),))], Letters(), 9)) == 1


def test_the_mean_is_over_rows_not_over_tokens(always) -> None:
    model = always({ord("a"): 0.5, ord("b"): 0.125})
    rows = [ChatRow(tuple(b"uaaaa"), (1, 2, 3, 4)), ChatRow(tuple(b"ub"), (1,))]
    losses = row_losses(model, rows)
    assert losses == pytest.approx((math.log(2), math.log(8)))
    assert sum(losses) / 2 != pytest.approx((4 * math.log(2) + math.log(8)) / 5, abs=0.1)


def test_neither_order_nor_neighbours_matter(files, base) -> None:
    rows = tokenise(conversations(read_rows(files / "data" / "chat_test.json"), Columns(), ""), base.tokenizer, 256)
    straight = row_losses(base.model, rows)
    order = list(range(len(rows)))
    random.Random(7).shuffle(order)
    assert row_losses(base.model, [rows[at] for at in order]) == tuple(straight[at] for at in order)
    assert straight == tuple(row_losses(base.model, [row])[0] for row in rows)


def test_a_task(files, task_of) -> None:
    evaluator = WarmEvaluator(files)
    data = task_of("data/chat_test.json", Columns())
    trained = evaluator.evaluate(TaskType.CHAT, data, files / "instruct_full", SEED)
    untrained = evaluator.evaluate(TaskType.CHAT, data, files / "base", SEED)
    assert len(trained.per_row) == 40
    assert trained.value < untrained.value
    assert (trained.fine_tuned, untrained.fine_tuned) == (True, False)
    with pytest.raises(EvaluatorCrashed, match="none of 40 conversations has words of an assistant and fits into 4"):
        evaluator.evaluate(TaskType.CHAT, data.model_copy(update={"sequence_len": 4}), files / "base", SEED)
