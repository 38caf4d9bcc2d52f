"""Points, standings and the emission (RULES §9)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tourney_ray.core.models import TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.weights import (
    TypeResult,
    emission_boost,
    emission_weights,
    exponential_decline_mapping,
    standings,
    task_points,
)

TEXT, IMAGE = TournamentType.TEXT, TournamentType.IMAGE
EXACT = 1e-12
hotkeys = st.sampled_from([f"h{i}" for i in range(9)])


# --- exponential decline


@pytest.mark.parametrize("count", [0, 1])
def test_a_lone_participant_gets_everything(count: int):
    assert exponential_decline_mapping(count, 1) == 1.0


def test_declines_of_two_three_and_four():
    assert [exponential_decline_mapping(2, r) for r in (1, 2)] == pytest.approx([8 / 9, 1 / 9], rel=EXACT)
    third = 8**-0.5
    total = 1 + third + 1 / 8
    three = [exponential_decline_mapping(3, r) for r in (1, 2, 3)]
    assert three == pytest.approx([1 / total, third / total, 1 / 8 / total], rel=EXACT)
    assert [exponential_decline_mapping(4, r) for r in (1, 2, 3, 4)] == pytest.approx(
        [8 / 15, 4 / 15, 2 / 15, 1 / 15], rel=EXACT
    )


@pytest.mark.parametrize("rank", [0, -1, 4])
def test_a_rank_outside_the_participants_is_an_error(rank: int):
    with pytest.raises(ValueError, match=f"rank {rank} is not one of 1 to 3"):
        exponential_decline_mapping(3, rank)


@given(st.integers(2, 300), st.floats(1, 1000))
def test_declines_sum_to_one_and_never_rise(count: int, rate: float):
    rules = Rules(weight_decay_rate=rate)
    shares = [exponential_decline_mapping(count, rank, rules) for rank in range(1, count + 1)]
    assert math.fsum(shares) == pytest.approx(1.0, abs=EXACT)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] / shares[-1] == pytest.approx(rate, rel=1e-9)


def test_geometric_declines_of_two_and_three():
    god = Rules.preset("god-2025-12")
    assert [exponential_decline_mapping(2, r, god) for r in (1, 2)] == pytest.approx([1 / 1.3, 0.3 / 1.3], rel=EXACT)
    three = [exponential_decline_mapping(3, r, god) for r in (1, 2, 3)]
    assert three == pytest.approx([1 / 1.39, 0.3 / 1.39, 0.09 / 1.39], rel=EXACT)


@given(st.integers(2, 300), st.floats(0.01, 1))
def test_geometric_declines_sum_to_one_and_keep_their_ratio(count: int, base: float):
    rules = Rules(weight_mapping="geometric", weight_decay_base=base)
    shares = [exponential_decline_mapping(count, rank, rules) for rank in range(1, count + 1)]
    assert math.fsum(shares) == pytest.approx(1.0, abs=EXACT)
    assert shares[1] == pytest.approx(shares[0] * base, rel=1e-9)


# --- points


def test_points_are_round_numbers_times_the_types_weight():
    wins = [(1, "a"), (2, "b"), (2, "a"), (3, None), (5, "champ"), (5, "winner")]
    assert task_points(wins, 0.15, {"champ", "winner"}) == {"a": 3 * 0.15, "b": 2 * 0.15}


def test_nobody_won_nobody_scores():
    assert task_points([(1, None)], 0.15, set()) == {}


# --- standings


def rows(points: dict[str, float], winner: str | None, dethroned: str | None) -> list[tuple[str, int, float]]:
    return [(s.hotkey, s.place, s.weight) for s in standings(points, winner, dethroned, Rules())]


def test_winner_first_then_the_dethroned_then_by_points():
    placed = standings({"a": 0.3, "b": 0.9, "old": 5.0}, "new", "old", Rules())
    assert [(s.hotkey, s.place, s.points) for s in placed] == [
        ("new", 1, 0.0),
        ("old", 2, 5.0),
        ("b", 3, 0.9),
        ("a", 4, 0.3),
    ]
    assert [s.weight for s in placed] == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15], rel=EXACT)


def test_equal_points_share_place_and_mean_weight():
    placed = rows({"b": 0.3, "a": 0.3, "c": 0.15}, "w", None)
    mean = (4 / 15 + 2 / 15) / 2
    assert [(h, p) for h, p, _ in placed] == [("w", 1), ("a", 2), ("b", 2), ("c", 4)]
    assert [w for _, _, w in placed] == pytest.approx([8 / 15, mean, mean, 1 / 15], rel=EXACT)


def test_a_lone_winner_gets_the_whole_weight():
    assert rows({}, "w", None) == [("w", 1, 1.0)]


def test_nobody_at_all_has_no_standings():
    assert standings({}, None, None, Rules()) == ()


def test_a_vacant_title_leaves_the_places_to_the_points():
    assert [(h, p) for h, p, _ in rows({"a": 0.15, "b": 0.3}, None, None)] == [("b", 1), ("a", 2)]


@given(st.dictionaries(hotkeys, st.integers(1, 6)), st.none() | hotkeys, st.none() | hotkeys, st.floats(1, 100))
def test_standings_sum_to_one_and_fall_with_the_place(
    wins: dict[str, int], winner: str | None, dethroned: str | None, rate: float
):
    if winner == dethroned:
        dethroned = None
    points = {h: n * 0.15 for h, n in wins.items()}
    placed = standings(points, winner, dethroned, Rules(weight_decay_rate=rate))
    everyone = {*points, *(h for h in (winner, dethroned) if h)}
    assert {s.hotkey for s in placed} == everyone
    assert len(placed) == len(everyone)
    assert math.fsum(s.weight for s in placed) == pytest.approx(1.0 if placed else 0.0, abs=EXACT)
    assert [s.place for s in placed] == sorted(s.place for s in placed)
    for one, other in pairwise(placed):
        assert one.weight >= other.weight * (1 - EXACT)
        assert (one.place == other.place) == (one.weight == other.weight) or rate < 1.001


# --- emission


@pytest.mark.parametrize(
    ("difference", "wins", "boost"),
    [
        (0.05, 1, 0.0),
        (-1.0, 1, 0.0),
        (0.10, 1, 0.10),
        (0.10, 0, 0.10),
        (0.10, 4, 0.07),
        (0.06, 9, 0.0),
        (0.30, 2, 0.49),
    ],
)
def test_the_boost_of_a_clear_win_decays_with_the_reign(difference: float, wins: int, boost: float):
    assert emission_boost(difference, wins, Rules()) == pytest.approx(boost, abs=EXACT)


def result(kind: TournamentType = TEXT, **changed: Any) -> TypeResult:
    given: dict[str, Any] = {
        "champion": "c",
        "weights": {"c": 0.75, "o": 0.25},
        "performance_difference": 0.0,
        "consecutive_wins": 1,
    }
    return TypeResult(kind, **{**given, **changed})


def test_the_champion_takes_of_the_boosted_share_and_the_others_of_the_base():
    shares = emission_weights([result(performance_difference=0.15)], [], None, Rules())
    assert shares == pytest.approx(
        {"c": 0.75 * 0.35, "o": 0.25 * 0.15, "burn": 1 - 0.75 * 0.35 - 0.25 * 0.15}, abs=EXACT
    )


@pytest.mark.parametrize(("kind", "cap"), [(TEXT, 0.6), (IMAGE, 0.4)])
def test_a_types_share_is_capped(kind: TournamentType, cap: float):
    lone = result(kind, weights={"c": 1.0}, performance_difference=9.0)
    assert emission_weights([lone], [], None, Rules()) == pytest.approx({"c": cap, "burn": 1 - cap}, abs=EXACT)


def test_participants_get_their_share_first_and_the_rest_is_scaled():
    shares = emission_weights([result()], ["c", "p"], None, Rules())
    scale = 1 - 2 * 0.0001
    assert shares["p"] == 0.0001
    assert shares["c"] == pytest.approx(0.0001 + 0.75 * 0.15 * scale, abs=EXACT)
    assert math.fsum(shares.values()) == pytest.approx(1.0, abs=EXACT)


def test_the_share_of_an_absent_hotkey_burns():
    everyone = emission_weights([result()], ["o", "p"], None, Rules())
    shares = emission_weights([result()], ["o", "p"], {"c"}, Rules())
    assert set(shares) == {"c", "burn"}
    assert shares["c"] == everyone["c"]
    assert shares["burn"] == pytest.approx(everyone["burn"] + everyone["o"] + everyone["p"], abs=EXACT)


def test_without_results_everything_burns():
    assert emission_weights([], [], None, Rules()) == {"burn": 1.0}
    assert emission_weights([result(champion=None, weights={})], [], None, Rules()) == {"burn": 1.0}


def test_a_burn_hotkey_that_earned_something_keeps_the_sum_at_one():
    shares = emission_weights([result(weights={"c": 0.5, "burn": 0.5})], ["burn", "c"], None, Rules())
    assert math.fsum(shares.values()) == pytest.approx(1.0, abs=EXACT)


def test_more_participants_than_shares_split_the_whole():
    crowd = [f"p{i}" for i in range(4)]
    shares = emission_weights([result()], crowd, None, Rules(participation_share=0.5))
    assert [shares[p] for p in crowd] == [0.25] * 4
    assert shares["burn"] == 0.0


def weights_of(winners: list[str]) -> dict[str, float]:
    return {h: exponential_decline_mapping(len(winners), i) for i, h in enumerate(winners, start=1)}


results = st.builds(
    lambda kind, winners, difference, wins: TypeResult(
        kind, winners[0] if winners else None, weights_of(winners), difference, wins
    ),
    st.sampled_from(TournamentType),
    st.lists(hotkeys, unique=True),
    st.floats(-10, 10),
    st.integers(0, 100),
)


@given(
    st.lists(results, max_size=2, unique_by=lambda r: r.tournament_type),
    st.sets(hotkeys),
    st.none() | st.sets(hotkeys),
    st.floats(0, 0.2),
)
def test_the_emission_sums_to_one(
    found: list[TypeResult], participants: set[str], registered: set[str] | None, share: float
):
    shares = emission_weights(found, participants, registered, Rules(participation_share=share))
    assert math.fsum(shares.values()) == pytest.approx(1.0, abs=EXACT)
    assert all(0 <= value <= 1 for value in shares.values())
    assert registered is None or set(shares) <= {*registered, "burn"}
