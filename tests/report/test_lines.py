"""Every fact is one line of `key=value`, whatever a stranger wrote into it."""

from __future__ import annotations

import shlex
from typing import get_args

import pytest

from tests.builders import START, entries
from tests.builders_eventful import eventful
from tourney_ray.core import events as e
from tourney_ray.core.chain import Entry, chain
from tourney_ray.core.models import Blame, Failed
from tourney_ray.report.lines import fact_line, short


@pytest.fixture(scope="module")
def journal() -> list[Entry]:
    """A journal with every kind of fact."""
    return entries(eventful().facts)


def pairs(line: str) -> dict[str, str]:
    """What a reader takes from the line's pairs."""
    return dict(word.split("=", 1) for word in shlex.split(line)[3:])


def test_each_kind_of_fact_gives_one_line_that_says_something(journal: list[Entry]) -> None:
    assert {entry.kind for entry in journal} == {kind.__name__ for kind in get_args(e.Fact)}
    for entry in journal:
        line = fact_line(entry)
        assert line.isprintable()
        assert line.startswith(f"{entry.at:%H:%M:%S} #{entry.seq} {entry.kind} ")
        assert pairs(line), line


def test_every_reason_is_in_its_line(journal: list[Entry]) -> None:
    reasoned = [entry for entry in journal if getattr(entry.fact, "because", "")]
    assert len(reasoned) > 50
    for entry in reasoned:
        assert pairs(fact_line(entry))["because"] == getattr(entry.fact, "because", None)


def test_numbers_and_names_stand_without_quotes() -> None:
    paid = e.Charged(tournament_id="t", hotkey="5" * 48, coldkey="c", rao=200_000_000)
    assert fact_line(chain(None, paid, START)) == f"00:00:00 #1 Charged hotkey={'5' * 16} rao=200000000"


@pytest.mark.parametrize(
    "reason", ["two\nlines", 'he said "no" blame=platform', "tab\there", "\x1b[31mred", "a\u2028b", "="]
)
def test_a_strangers_words_stay_inside_their_quotes(reason: str) -> None:
    ended = e.AttemptEnded(
        tournament_id="t",
        task_id="task",
        hotkey="m00",
        attempt_id="a",
        outcome=Failed(blame=Blame.MINER, kind="crashed", reason=reason, seconds=0.25),
    )
    line = fact_line(chain(None, ended, START))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    said = pairs(line)
    assert (said["outcome"], said["blame"], said["seconds"]) == ("failed", "miner", "0.2")
    assert set(said) == {"task", "hotkey", "outcome", "blame", "reason", "seconds"}


def test_letters_of_the_rules_are_not_spelled_in_code() -> None:
    refused = e.EntrantRefused(tournament_id="t", hotkey="m00", number=1, because="needs 8×H100 – 0.2 TAO ≥ 0.1")
    assert fact_line(chain(None, refused, START)).endswith('because="needs 8×H100 – 0.2 TAO ≥ 0.1"')


def test_nobody_has_a_name() -> None:
    assert short(None) == "nobody"
    assert short("m00") == "m00"
