"""The structure of a tournament in both presets (RULES §3)."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tests.builders import CHAMPION, miners
from tourney_ray.core.models import RoundType
from tourney_ray.core.rounds import End, NextRound, group_count, next_step, round_type
from tourney_ray.core.rules import Rules

SPEC, GOD = Rules(), Rules.preset("god-2025-12")
GROUP, KNOCKOUT, BOSS = RoundType.GROUP, RoundType.KNOCKOUT, RoundType.BOSS


def drawn(survivors: list[str], number: int = 1, rules: Rules = SPEC, champion: str | None = CHAMPION) -> NextRound:
    step = next_step(survivors, champion, number, rules)
    assert isinstance(step, NextRound)
    return step


def with_champion(count: int) -> list[str]:
    """So many survivors, the champion among them, neither first nor last."""
    return [*miners(1), CHAMPION, *miners(count - 1)[1:]]


# --- both presets


@pytest.mark.parametrize("rules", [SPEC, GOD], ids=["spec", "god"])
def test_nobody_left_is_the_end(rules: Rules):
    kept = "the champion keeps the title"
    assert next_step([], CHAMPION, 3, rules) == End(CHAMPION, "defended", f"nobody survived: {kept}")
    assert next_step([CHAMPION], CHAMPION, 3, rules) == End(
        CHAMPION, "defended", f"the champion is the only survivor: {kept}"
    )
    because = "nobody survived and there is no champion: the title is vacant"
    assert next_step([], None, 3, rules) == End(None, "vacant", because)


@pytest.mark.parametrize("rules", [SPEC, GOD], ids=["spec", "god"])
def test_one_challenger_left_plays_the_champion_or_has_nobody_to_beat(rules: Rules):
    boss = drawn(["m00"], 4, rules)
    assert (boss.round_type, boss.players, boss.groups, boss.bye) == (BOSS, (CHAMPION, "m00"), 0, None)
    assert (boss.champion, boss.because) == ("plays", f"one survivor: m00 challenges {CHAMPION}")
    because = "m00 is the last one standing; no champion to beat"
    assert next_step(["m00"], None, 4, rules) == End("m00", "uncontested", because)


@pytest.mark.parametrize("survivors", [["m00", CHAMPION], [CHAMPION, "m00"]])
def test_of_two_survivors_the_champion_meets_the_other_in_the_boss_round(survivors: list[str]):
    boss = drawn(survivors, 3, GOD)
    assert (boss.round_type, boss.players) == (BOSS, (CHAMPION, "m00"))


# --- spec


@pytest.mark.parametrize(("count", "shape"), [(2, KNOCKOUT), (8, KNOCKOUT), (9, GROUP), (20, GROUP), (500, GROUP)])
def test_more_than_eight_play_in_one_group(count: int, shape: RoundType):
    step = drawn(miners(count))
    assert (step.round_type, step.champion) == (shape, "waits")
    assert step.groups == (shape is GROUP)


def test_the_best_placed_of_an_odd_number_has_the_bye():
    step = drawn(["best", "second", "third"], 2)
    assert (step.bye, step.players) == ("best", ("second", "third"))
    assert step.because == "3 entrants: knock-out in pairs; best, the best placed of an odd number, has a bye"


def test_a_group_round_says_how_many_advance():
    assert drawn(miners(11)).because == "11 entrants are more than 8: one group, the best 8 advance"


# --- god-2025-12


@pytest.mark.parametrize(
    ("players", "groups"), [(15, 1), (32, 1), (33, 1), (39, 1), (40, 2), (64, 2), (65, 3), (96, 3), (97, 4), (200, 7)]
)
def test_groups_of_32_but_not_under_20(players: int, groups: int):
    assert round_type(players, GOD) is GROUP
    assert group_count(players, GOD) == groups


def test_fourteen_play_in_pairs_and_several_groups_say_so():
    assert drawn(miners(14), 1, GOD).round_type is KNOCKOUT
    step = drawn(miners(40), 1, GOD)
    assert (step.round_type, step.groups) == (GROUP, 2)
    assert step.because == "40 entrants are more than 14: 2 groups, the best 8 of each advance"


def test_the_champion_joins_an_odd_number():
    step = drawn(miners(7), 2, GOD)
    assert (step.champion, step.players, step.bye) == ("added", (CHAMPION, *miners(7)), None)
    assert step.because.endswith(f"; the champion {CHAMPION} joins them, without a margin, to make them even")
    assert drawn(miners(15), 2, GOD).round_type is GROUP


def test_the_champion_sits_out_of_an_odd_number_that_it_is_in():
    step = drawn(with_champion(15), 3, GOD)
    assert (step.champion, step.players, step.round_type) == ("dropped", tuple(miners(14)), KNOCKOUT)
    assert step.because.endswith(f"; the champion {CHAMPION} sits this round out to make them even")


def test_the_champion_plays_on_in_an_even_number():
    step = drawn(with_champion(6), 3, GOD)
    assert (step.champion, step.players) == ("plays", tuple(with_champion(6)))


def test_in_round_1_the_champion_makes_pairs_even_but_not_groups():
    assert drawn(miners(13), 1, GOD).champion == "added"
    group = drawn(miners(15), 1, GOD)
    assert (group.champion, group.players) == ("waits", tuple(miners(15)))


def test_without_a_champion_an_odd_one_out_has_a_bye():
    step = drawn(miners(7), 2, GOD, champion=None)
    assert (step.champion, step.bye, len(step.players)) == ("waits", "m00", 6)


# --- properties

counts = st.integers(2, 300)
numbers = st.integers(1, 6)


@given(counts, numbers, st.sampled_from([SPEC, GOD]), st.booleans(), st.booleans())
def test_everybody_plays_or_has_the_bye(count: int, number: int, rules: Rules, titled: bool, survived: bool):
    inside = titled and survived and rules is GOD and number > 1
    survivors = with_champion(count) if inside else miners(count)
    step = drawn(survivors, number, rules, CHAMPION if titled else None)
    seen = [*step.players, *([step.bye] if step.bye else [])]
    assert len(seen) == len(set(seen))
    assert set(seen) - {CHAMPION} == set(survivors) - {CHAMPION}
    assert (CHAMPION in seen) == (step.champion in ("added", "plays"))
    assert (step.groups > 0) == (step.round_type is GROUP)
    if step.round_type is not GROUP or (titled and rules is GOD and number > 1):
        assert len(step.players) % 2 == 0


@given(counts, st.integers(2, 9), st.integers(2, 60), st.integers(2, 60), st.integers(1, 60), st.booleans())
def test_rounds_come_to_an_end(count: int, number: int, size: int, least: int, advance: int, wins: bool):
    if not advance < least <= size:
        return
    rules = GOD.model_copy(
        update={
            "group_size": size,
            "group_size_least": least,
            "group_advance": advance,
            "knockout_at_most": advance + 1,
        }
    )
    Rules.model_validate(rules.model_dump())
    survivors = miners(count)
    for later in range(count):
        step = next_step(survivors, CHAMPION, number + later, rules)
        if isinstance(step, End) or step.round_type is BOSS:
            return
        survivors = _survivors(step, rules, wins)
    pytest.fail("more rounds than entrants")


def _survivors(step: NextRound, rules: Rules, champion_wins: bool) -> list[str]:
    """As many as may, the champion first or last."""
    players = sorted(step.players, key=lambda h: (h != CHAMPION) is champion_wins)
    if step.round_type is KNOCKOUT:
        return players[: len(players) // 2]
    assert rules.group_advance * step.groups < len(players)
    assert len(players) / step.groups >= rules.group_size_least or step.groups == 1
    return players[: rules.group_advance * step.groups]
