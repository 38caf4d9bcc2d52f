"""Nothing that anybody does to a journal goes unseen, and whoever reads it is told in one line where it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from tests.store.judging import PLACE, complaint, one_line, refused
from tests.store.mutations import (
    ENTRIES,
    FORGERIES,
    LINES,
    NEVER_PASS,
    WHOLE,
    Mutation,
    cut,
    in_other_words,
    without_a_stretch,
)
from tourney_ray.core.chain import Entry
from tourney_ray.errors import AuditDifference, TourneyError
from tourney_ray.store.journal import Journal
from tourney_ray.store.lines import entry_line
from tourney_ray.store.steps import replayed


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


# --- the lines


def test_the_unspoiled_copy_passes(copy: Path) -> None:
    copy.write_bytes(WHOLE)
    assert complaint(copy) == ""


@pytest.mark.parametrize("mutation", NEVER_PASS, ids=lambda mutation: mutation.__name__)
def test_a_spoiled_copy_is_refused(copy: Path, mutation: Mutation) -> None:
    for seed in range(20):
        copy.write_bytes(mutation(Random(seed)))
        refused(copy)


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_no_bit_may_be_another(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    copy = tmp_path_factory.getbasetemp() / "flipped.jsonl"
    copy.write_bytes(WHOLE[:place] + bytes([WHOLE[place] ^ (1 << bit)]) + WHOLE[place + 1 :])
    message = refused(copy)
    number = WHOLE[: place + 1].count(b"\n") + (WHOLE[place : place + 1] != b"\n")
    assert re.search(rf"\b(fact|line) ({number}|{number + 1})\b", message), (number, message)


@pytest.mark.parametrize("mutation", [cut, without_a_stretch])
def test_what_passes_of_a_cut_copy_is_a_shorter_journal(copy: Path, mutation: Mutation) -> None:
    for seed in range(20):
        copy.write_bytes(mutation(Random(seed)))
        assert complaint(copy) or WHOLE.startswith(copy.read_bytes())


def test_a_copy_cut_between_two_facts_is_shorter_or_lacks_what_the_rules_give(copy: Path) -> None:
    for number in range(0, len(LINES), 7):
        copy.write_bytes(b"".join(LINES[:number]))
        message = complaint(copy)
        assert not message or message.startswith(f"fact {number + 1} is missing")


@pytest.mark.parametrize("forgery", dict.fromkeys(FORGERIES), ids=lambda forgery: forgery.__name__)
def test_a_forged_copy_is_refused_or_has_another_head(copy: Path, forgery: Callable[[Random], list[Entry]]) -> None:
    found = 0
    for seed in range(30):
        copy.write_bytes(b"".join(map(entry_line, forgery(Random(seed)))))
        message = complaint(copy)
        assert PLACE.search(message) or not message
        found += bool(message)
    assert found > 10


@settings(max_examples=50, deadline=None)
@given(content=st.binary(min_size=1, max_size=200) | st.text(min_size=1, max_size=200).map(str.encode))
def test_rubbish_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    copy = tmp_path_factory.getbasetemp() / "rubbish.jsonl"
    copy.write_bytes(content)
    assert refused(copy).startswith("line ")


def test_a_fact_in_other_words_is_refused(copy: Path) -> None:
    for seed in range(20):
        copy.write_bytes(b"".join(map(entry_line, in_other_words(Random(seed)))))
        assert "its body says things twice or in another form" in refused(copy)


def test_a_forged_journal_is_replayed_or_refused() -> None:
    """Without the audit, which refuses most forged decisions before they are replayed."""
    passed = 0
    for seed in range(200):
        forged = FORGERIES[seed % len(FORGERIES)](Random(1000 + seed))
        try:
            passed += len(list(replayed(forged))) == len(forged)
        except AuditDifference as error:
            one_line(error.message)
    assert 0 < passed < 150


def test_forged_lines_that_do_not_follow_are_not_opened(copy: Path) -> None:
    found = 0
    for seed in range(24):
        (copy.parent / "journal.duckdb").unlink(missing_ok=True)
        copy.write_bytes(b"".join(map(entry_line, FORGERIES[seed % len(FORGERIES)](Random(seed)))))
        try:
            with closing(Journal.open(copy.parent)) as journal:
                assert (list(journal.entries()) == ENTRIES) == (copy.read_bytes() == WHOLE)
        except TourneyError as error:
            found += bool(one_line(error.message))
    assert found > 10
