"""Faults: which there are, how often they happen, and that the same seed has the same ones."""

from __future__ import annotations

import random

import pytest

from tourney_ray.errors import ConfigError
from tourney_ray.simulation.faults import KINDS, MOST_OF_A_KIND, Crash, Faults, parse_faults


def faults(*kinds: str, seed: int = 0) -> Faults:
    return Faults(frozenset(kinds), random.Random(seed))


def test_words_name_kinds():
    assert parse_faults("all") == frozenset(KINDS)
    assert parse_faults("none") == frozenset()
    assert parse_faults("crash, node") == {"crash", "node"}


@pytest.mark.parametrize(("words", "strange"), [("fire", "fire"), ("crash,", ""), ("crash,fire,flood", "fire, flood")])
def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(words: str, strange: str):
    with pytest.raises(ConfigError) as refused:
        parse_faults(words)
    assert refused.value.message == f"there is no fault called {strange}"
    assert all(kind in str(refused.value.hint) for kind in KINDS)


def test_only_the_named_kinds_happen_and_only_so_often():
    some = faults("node")
    assert sum(some.strikes("node", 1.0) for _ in range(100)) == MOST_OF_A_KIND
    assert not some.strikes("crash", 1.0)
    some.crash(1.0)
    assert some.happened == {"node": MOST_OF_A_KIND}


def test_a_crash_is_caught_by_nobody_who_catches_exceptions():
    assert not issubclass(Crash, Exception)
    with pytest.raises(Crash):
        faults("crash").crash(1.0)


def test_things_take_about_their_time_and_arrive_once():
    calm = faults()
    assert all(50 <= calm.takes(100) <= 150 for _ in range(200))
    delays = [calm.delays(2.0) for _ in range(200)]
    assert all(len(each) == 1 and 1 <= each[0] <= 3 for each in delays)
    assert calm.happened == {}


def test_things_take_long_or_arrive_late_or_twice():
    some = faults("slow", "late", "duplicate")
    assert max(some.takes(100) for _ in range(500)) >= 2000
    delays = [some.delays(1.0) for _ in range(500)]
    assert sum(len(each) == 2 for each in delays) == MOST_OF_A_KIND
    assert all(each == sorted(each) for each in delays)
    assert max(each[0] for each in delays) > 60
    assert set(some.happened) == {"slow", "late", "duplicate"}


def test_the_same_dice_have_the_same_faults():
    one, same, other = (faults(*KINDS, seed=seed) for seed in (1, 1, 2))
    told = [[each.strikes("node", 0.1) for _ in range(50)] + each.delays(1.0) for each in (one, same, other)]
    assert told[0] == told[1] != told[2]
