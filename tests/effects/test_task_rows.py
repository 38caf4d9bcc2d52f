"""What becomes of the rows of a data set: text, each once, split so that nothing tested was trained on."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tourney_ray.core.dataset_types import (
    ChatDatasetType,
    DatasetType,
    DpoDatasetType,
    GrpoDatasetType,
    ImageDatasetType,
    InstructDatasetType,
    RewardFunction,
)
from tourney_ray.effects.task_rows import as_text, split
from tourney_ray.errors import ConfigError

INSTRUCT = InstructDatasetType(field_input="input")
REWARD = RewardFunction(reward_func="def f(completions): ...", reward_weight=1, low=0, high=1)
GRPO = GrpoDatasetType(extra_column="answer", reward_functions=(REWARD,))
SEED = b"\x05" * 32


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"p{number}", "chosen": "yes", "rejected": "no"} for number in range(count)]


# --- text


def test_values_become_text_and_other_columns_go() -> None:
    rows = [{"instruction": 7, "output": 1.5, "id": "x"}, {"instruction": True, "output": None, "input": ["a", 1]}]
    assert as_text(rows, INSTRUCT, "d") == [
        {"instruction": "7", "output": "1.5", "input": ""},
        {"instruction": "True", "output": "", "input": '["a", 1]'},
    ]


def test_of_a_conversation_only_its_turns_are_kept() -> None:
    turn = {"from": "user", "value": 5, "id": 3}
    rows = [{"conversations": [turn, {"from": "assistant", "value": None}], "x": 1}]
    turns = [{"from": "user", "value": "5"}, {"from": "assistant", "value": ""}]
    assert as_text(rows, ChatDatasetType(), "d") == [{"conversations": turns}]


def test_extra_data_stays_with_its_prompt() -> None:
    rows = [{"prompt": "p", "answer": {"a": 1}, "more": 2}]
    assert as_text(rows, GRPO, "d") == [{"prompt": "p", "answer": '{"a": 1}'}]


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_a_preference_with_an_empty_field_is_left_out(column: str) -> None:
    rows = prompts(2)
    rows[0][column] = random.choice(["", None])
    assert as_text(rows, DpoDatasetType(), "d") == rows[1:]


def test_the_same_row_counts_once_whatever_its_white_space() -> None:
    rows = [{"instruction": "a  b\n", "output": "c"}, {"instruction": "a b", "output": "c"}]
    rows += [{"instruction": "a b", "output": "d"}]
    assert as_text(rows, InstructDatasetType(), "d") == [rows[0], rows[2]]


@pytest.mark.parametrize(
    ("row", "kind", "complaint"),
    [
        ({"output": "x"}, INSTRUCT, r"row 2 of d has no column 'instruction'"),
        ({"instruction": "x"}, INSTRUCT, r"row 2 of d has no column 'output'"),
        ({"prompt": "x", "chosen": "y"}, DpoDatasetType(), r"row 2 of d has no column 'rejected'"),
        ({"answer": "x"}, GRPO, r"row 2 of d has no column 'prompt'"),
        ({"instruction": b"x", "output": ""}, INSTRUCT, r"row 2 of d, column 'instruction', holds bytes"),
        ({"conversations": "hello"}, ChatDatasetType(), r"row 2 of d, column 'conversations', is no list of turns"),
        ({"conversations": [{"from": "user"}]}, ChatDatasetType(), r"is no list of turns with 'from' and 'value'"),
    ],
)
def test_a_row_that_does_not_fit_is_named(row: dict[str, Any], kind: DatasetType, complaint: str) -> None:
    good = {"instruction": "i", "input": "", "output": "o", "prompt": "p", "chosen": "c", "rejected": "r", "answer": ""}
    with pytest.raises(ConfigError, match=complaint) as caught:
        as_text([good | {"conversations": []}, row], kind, "d")
    assert caught.value.hint.startswith("name ")


def test_an_optional_column_may_be_missing_in_some_rows_but_not_in_all() -> None:
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d", "input": "e"}]
    assert [row["input"] for row in as_text(rows, INSTRUCT, "d")] == ["", "e"]
    with pytest.raises(ConfigError, match="no row of d has a column 'input'"):
        as_text(rows[:1], INSTRUCT, "d")


def test_pictures_are_no_rows() -> None:
    with pytest.raises(ConfigError, match="archive"):
        as_text([], ImageDatasetType(model_type="sdxl"), "d")


# --- split


@given(st.integers(min_value=10, max_value=200), st.binary(min_size=32, max_size=32), st.randoms())
def test_a_tenth_is_tested_and_order_does_not_matter(count: int, seed: bytes, chance: random.Random) -> None:
    rows = prompts(count)
    one = split(rows, seed, "d")
    chance.shuffle(rows)
    assert split(rows, seed, "d") == one
    assert len(one.test) == count // 10
    assert sorted(map(json.dumps, one.train + one.test)) == sorted(map(json.dumps, rows))


def test_no_more_than_four_hundred_are_tested() -> None:
    made = split(prompts(5000), SEED, "d")
    assert (len(made.test), len(made.train)) == (400, 4600)


def test_another_seed_is_another_split() -> None:
    rows = prompts(100)
    assert split(rows, SEED, "d").test != split(rows, b"\x06" * 32, "d").test


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="d has 9 usable rows, a task takes 10 or more"):
        split(prompts(9), SEED, "d")
