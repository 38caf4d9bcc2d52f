"""The DPO loss: the independent reference's values, numbers computed by hand, and each rule by itself."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tourney_ray.core.dataset_types import DpoDatasetType as Columns
from tourney_ray.core.models import TaskType
from tourney_ray.errors import ConfigError
from tourney_ray.evaluation import preference
from tourney_ray.evaluation.preference import Completion, Pair, pair_losses, preferences, tokenise
from tourney_ray.evaluation.rows import read_rows
from tourney_ray.evaluation.worker import WarmEvaluator

EOS = 2
SEED = bytes(32)


class Letters:
    """A tokenizer of one token per letter: its code."""

    bos_token_id: int | None = 1
    eos_token_id: int | None = EOS

    def encode(self, text: str, *, add_special_tokens: bool, truncation: bool, verbose: bool) -> list[int]:
        assert not add_special_tokens
        assert not truncation
        return list(text.encode())


@pytest.fixture(scope="module")
def evaluator(files) -> WarmEvaluator:
    return WarmEvaluator(files)


@pytest.fixture
def data(task_of) -> Any:
    return task_of("data/dpo_test.json", Columns())


@pytest.fixture
def pairs(files, base) -> list[Pair]:
    return tokenise(read_rows(files / "data" / "dpo_test.json"), Columns(), base.tokenizer, 1024)


@pytest.mark.parametrize("name", ["dpo_full", "base_on_dpo"])
def test_the_independent_values(files, evaluator, data, expected, name: str) -> None:
    want = expected[name]
    got = evaluator.evaluate(TaskType.DPO, data, files / want.get("checkpoint", name), SEED)
    assert got.value == pytest.approx(want["value"], abs=1e-5)
    assert len(got.per_row) == 30
    assert math.fsum(got.per_row) / 30 == pytest.approx(got.value, abs=1e-12)


def test_the_base_itself_prefers_nothing(files, evaluator, data) -> None:
    got = evaluator.evaluate(TaskType.DPO, data, files / "base", SEED)
    assert got.per_row == (pytest.approx(math.log(2), abs=1e-15),) * 30
    assert not got.fine_tuned


def test_the_reference_is_computed_once_for_all_entrants(files, data, monkeypatch) -> None:
    read: list[int] = []
    losses = preference.token_losses
    monkeypatch.setattr(preference, "token_losses", lambda *it: read.append(1) or losses(*it))
    evaluator = WarmEvaluator(files)
    for count in (2, 3):
        evaluator.evaluate(TaskType.DPO, data, files / "dpo_full", SEED)
        assert len(read) == count * 60


def test_a_margin_by_hand(always) -> None:
    pair = Pair(Completion((*b"qaa", EOS), 1), Completion((*b"qb", EOS), 1))
    (tuned,) = preferences(always({ord("a"): 0.5, ord("b"): 0.125, EOS: 0.25}), [pair])
    (reference,) = preferences(always({ord("a"): 0.25, ord("b"): 0.25, EOS: 0.25}), [pair])
    assert tuned == pytest.approx(math.log(0.5 * 0.5 / 0.125), abs=1e-6)
    assert reference == pytest.approx(math.log(0.25), abs=1e-6)
    margin = 0.1 * (math.log(2) - math.log(0.25))
    assert pair_losses([tuned], [reference]) == pytest.approx((-math.log(1 / (1 + math.exp(-margin))),), abs=1e-7)


@pytest.mark.parametrize(
    ("tuned", "loss"), [(1e5, 0.0), (-1e5, 1e4), (math.inf, 0.0), (-math.inf, math.inf), (math.nan, math.nan)]
)
def test_margins_of_any_size(tuned: float, loss: float) -> None:
    assert pair_losses([tuned], [0.0]) == pytest.approx((loss,), nan_ok=True)


def test_neither_order_nor_neighbours_matter(base, pairs) -> None:
    straight = preferences(base.model, pairs)
    order = list(range(len(pairs)))
    random.Random(7).shuffle(order)
    assert preferences(base.model, [pairs[at] for at in order]) == tuple(straight[at] for at in order)
    assert straight == tuple(preferences(base.model, [pair])[0] for pair in pairs)


def test_texts_stand_as_they_are_with_eos_behind() -> None:
    row = {"prompt": "ab", "chosen": "cd", "rejected": "e"}
    assert tokenise([row], Columns(), Letters(), 9) == [
        Pair(Completion((*b"abcd", EOS), 2), Completion((*b"abe", EOS), 2))
    ]


def test_columns_are_the_tasks() -> None:
    columns = Columns(field_prompt="q", field_chosen="good", field_rejected="bad")
    assert len(tokenise([{"q": "a", "good": 7, "bad": "c"}], columns, Letters(), 9)) == 1
    with pytest.raises(ConfigError, match="row 2 has no column 'good'"):
        tokenise([{"q": "a", "good": "b", "bad": "c"}, {"q": "a"}], columns, Letters(), 9)


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
@pytest.mark.parametrize("empty", ["", None])
def test_pairs_with_an_empty_text_are_dropped(column: str, empty: str | None) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert len(tokenise([row | {column: empty}, row], Columns(), Letters(), 9)) == 1


def test_the_end_of_a_long_prompt_is_read() -> None:
    (pair,) = tokenise([{"prompt": "a" * 500 + "b" * 500, "chosen": "c", "rejected": "d"}], Columns(), Letters(), 1024)
    assert pair.chosen.ids == (*b"a" * 12, *b"b" * 500, *b"c", EOS)
    assert pair.chosen.prompt == 512


@pytest.mark.parametrize(("chosen", "rejected"), [("abcde", "a"), ("a", "abcde")])
def test_longer_pairs_are_dropped(chosen: str, rejected: str) -> None:
    rows = [{"prompt": "ab", "chosen": chosen, "rejected": rejected}]
    assert len(tokenise(rows, Columns(), Letters(), 8)) == 1
    assert tokenise(rows, Columns(), Letters(), 7) == []


def test_a_prompt_of_no_tokens_leaves_the_first_unscored() -> None:
    class Deaf(Letters):
        def encode(self, text: str, *, add_special_tokens: bool, truncation: bool, verbose: bool) -> list[int]:
            return [] if text == "\u200b" else list(text.encode())

    (pair,) = tokenise([{"prompt": "\u200b", "chosen": "ab", "rejected": "c"}], Columns(), Deaf(), 8)
    assert pair.chosen == Completion((*b"ab", EOS), 1)


def test_a_task_of_which_no_pair_fits_is_our_fault(files, evaluator, data) -> None:
    with pytest.raises(Exception, match="none of 30 pairs is whole and fits into 5 tokens"):
        evaluator.evaluate(TaskType.DPO, data.model_copy(update={"sequence_len": 5}), files / "dpo_full", SEED)
