"""Facts in their chain: a cut, an edit or a swap shows."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from tests.builders import START, credit, entries, play
from tourney_ray.core import events as e
from tourney_ray.core.chain import Entry, chain, entry_hash
from tourney_ray.core.models import Blame, Evaluated, Failed, Trained

AT = datetime(2026, 1, 1, 12, 30, 0, 5, tzinfo=UTC)


def test_the_first_entry_stands_on_the_genesis():
    entry = chain(None, credit("a"), AT)
    assert (entry.seq, entry.previous, entry.kind) == (1, "0" * 64, "TransferCredited")
    assert entry.fact == credit("a")


def test_the_hash_recomputed_by_hand():
    entry = chain(None, credit("a"), AT)
    text = f"1\n2026-01-01T12:30:00.000005+00:00\nTransferCredited\n{entry.body}\n{'0' * 64}"
    assert entry.hash == hashlib.sha256(text.encode()).hexdigest()


def test_an_entry_covers_the_one_before():
    first = chain(None, credit("a"), AT)
    second = chain(first, credit("b"), AT)
    assert (second.seq, second.previous) == (2, first.hash)
    assert second.hash == entry_hash(2, AT, second.kind, second.body, first.hash)


def test_the_moment_counts_not_its_time_zone():
    east = AT.astimezone(timezone(timedelta(hours=9)))
    assert chain(None, credit("a"), east) == chain(None, credit("a"), AT)


@pytest.mark.parametrize("changed", ["seq", "at", "kind", "body", "previous"])
def test_changing_any_field_changes_the_hash(changed: str):
    fields = {"seq": 1, "at": AT, "kind": "Charged", "body": "{}", "previous": "0" * 64}
    other = {"seq": 2, "at": AT + timedelta(microseconds=1), "kind": "Chargee", "body": "{ }", "previous": "1" * 64}
    assert entry_hash(**fields) != entry_hash(**{**fields, changed: other[changed]})  # pyright: ignore[reportArgumentType]


def test_every_fact_of_a_tournament_reads_back_from_its_body():
    journal = entries(play(9).facts)
    assert [entry.fact.model_dump_json() for entry in journal] == [entry.body for entry in journal]
    assert [entry.fact for entry in journal] == [fact for fact, _ in play(9).facts]
    assert {entry.kind for entry in journal} >= {"TournamentCreated", "RoundDrawn", "TournamentCompleted"}


@given(st.floats(), st.lists(st.floats(), max_size=3))
def test_metrics_read_back_bit_by_bit_even_nan_and_infinite(value: float, per_row: list[float]):
    fact = e.CheckpointEvaluated(
        tournament_id="t", task_id="k", hotkey="h", number=1, result=Evaluated(value=value, per_row=tuple(per_row))
    )
    read = chain(None, fact, START).fact
    assert isinstance(read, e.CheckpointEvaluated)
    assert math.isnan(read.result.value) if math.isnan(value) else read.result.value == value
    assert repr(read) == repr(fact)


@pytest.mark.parametrize(
    "outcome", [Trained(checkpoint="c", seconds=1), Failed(blame=Blame.MINER, kind="Crash", reason="exit status 1")]
)
def test_outcomes_read_back_as_what_they_are(outcome: Trained | Failed):
    fact = e.AttemptEnded(tournament_id="t", task_id="k", hotkey="h", attempt_id="a", outcome=outcome)
    assert chain(None, fact, START).fact == fact


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('{"kind": "Miracle"}', "does not match any of the expected tags"),
        ('{"kind": "TransferCredited", "transfer_id": "t", "coldkey": "c", "rao": 1, "x": 1}', "Extra inputs"),
        ('{"kind": "TransferCredited", "transfer_id": "t", "coldkey": "c", "rao": 0}', "greater than 0"),
        ('{"kind": "TransferCredited", "transfer_id": "t", "coldkey": "../x", "rao": 1}', "match pattern"),
    ],
)
def test_what_is_no_fact_is_refused(body: str, complaint: str):
    entry = Entry(seq=1, at=AT, kind="TransferCredited", body=body, previous="0" * 64, hash="0" * 64)
    with pytest.raises(ValidationError, match=complaint):
        _ = entry.fact
