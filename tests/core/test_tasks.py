"""Which tasks a round has and who trains them (RULES §4)."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from tests.builders import miners
from tests.core.arena import Arena
from tourney_ray.core.ids import TaskPlace, task_id
from tourney_ray.core.models import RoundType, TaskOrigin, TaskType, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.tasks import (
    assign_nodes_to_tournament_tasks,
    choose_task,
    draw_text_task_type,
    model_range_b,
    mostly_failed,
    queue_key,
    replacement_range_b,
    slots,
    task_seed,
    training_hours,
)

SECRET = "22" * 32
TEXT, IMAGE = TournamentType.TEXT, TournamentType.IMAGE
GROUP, KNOCKOUT, BOSS = RoundType.GROUP, RoundType.KNOCKOUT, RoundType.BOSS


@pytest.mark.parametrize(
    ("u", "task_type"),
    [
        (0.0, TaskType.INSTRUCT),
        (math.nextafter(0.5, 0), TaskType.INSTRUCT),
        (0.5, TaskType.DPO),
        (math.nextafter(0.6875, 0), TaskType.DPO),
        (0.6875, TaskType.GRPO),
        (1.0, TaskType.GRPO),
    ],
)
def test_type_of_a_knockout_task_by_position(u: float, task_type: TaskType):
    assert draw_text_task_type(u, Rules()) is task_type


def test_a_type_without_a_share_is_never_drawn():
    rules = Rules(knockout_task_shares={TaskType.DPO: 0.0, TaskType.CHAT: 1.0, TaskType.GRPO: 0.0})
    assert {draw_text_task_type(u / 8, rules) for u in range(9)} == {TaskType.CHAT}


@pytest.mark.parametrize(
    ("kind", "shape", "count"),
    [(TEXT, GROUP, 1), (TEXT, KNOCKOUT, 1), (TEXT, BOSS, 6), (IMAGE, GROUP, 1), (IMAGE, BOSS, 6)],
)
def test_tasks_of_a_match(kind: TournamentType, shape: RoundType, count: int):
    assert slots(kind, shape, Rules()) == count


def test_a_group_trains_one_small_instruct_model():
    request = choose_task(SECRET, TEXT, GROUP, TaskPlace("m", 0, 1), Rules())
    assert (request.task_type, request.model_range_b) == (TaskType.INSTRUCT, (0.1, 4.0))


def test_a_boss_round_has_two_of_each_with_big_models():
    requests = [choose_task(SECRET, TEXT, BOSS, TaskPlace("m", slot, 1), Rules()) for slot in range(6)]
    assert Counter(r.task_type for r in requests) == {TaskType.INSTRUCT: 2, TaskType.DPO: 2, TaskType.GRPO: 2}
    assert {r.model_range_b for r in requests} == {(12.0, 71.0)}


def test_a_boss_round_of_the_implementation_has_big_models_now_and_then():
    god = Rules.preset("god-2025-12")
    asked = [choose_task(SECRET, TEXT, BOSS, TaskPlace(f"round_009_pair_{i:03d}", 0, 1), god) for i in range(200)]
    ranges = Counter(r.model_range_b for r in asked)
    assert set(ranges) == {(12.0, 71.0), (0.1, 12.0)}
    assert 20 <= ranges[12.0, 71.0] <= 60


@pytest.mark.parametrize(("share", "u", "big"), [(0.2, 0.19, True), (0.2, 0.2, False), (1.0, 1.0, True), (0, 0, False)])
def test_a_boss_model_is_big_below_the_share(share: float, u: float, big: bool):
    rules = Rules(boss_big_model_share=share)
    assert model_range_b(BOSS, rules, u) == ((12.0, 71.0) if big else (0.1, 12.0))
    assert model_range_b(KNOCKOUT, rules, u) == (0.1, 12.0)
    assert model_range_b(GROUP, rules, u) == (0.1, 4.0)


def test_the_size_of_a_boss_model_does_not_change_with_the_try():
    god = Rules.preset("god-2025-12")
    places = [[TaskPlace("round_003_pair_001", slot, attempt) for attempt in (1, 2, 3)] for slot in range(6)]
    assert all(len({choose_task(SECRET, TEXT, BOSS, p, god).model_range_b for p in tries}) == 1 for tries in places)


@given(st.integers(1, 10**12))
def test_a_replacement_has_about_the_size_of_what_it_replaces(params: int):
    low, high = replacement_range_b(params, Rules())
    assert (low, high) == pytest.approx((0.8 * params / 1e9, 1.2 * params / 1e9), rel=1e-12)


@pytest.mark.parametrize(("failed", "of", "mostly"), [(0, 0, False), (1, 2, False), (2, 3, True), (2, 2, True)])
def test_half_is_not_most(failed: int, of: int, mostly: bool):
    assert mostly_failed(failed, of, Rules()) is mostly


def test_the_queue_is_in_order_of_priority_then_age():
    day = datetime(2026, 1, 1, tzinfo=UTC)
    waiting = [
        (TaskOrigin.BENCHMARK, 1),
        (TaskOrigin.TOURNAMENT, 9),
        (TaskOrigin.TOURNAMENT, 2),
        (TaskOrigin.ORGANIC, 9),
    ]
    ordered = sorted(waiting, key=lambda w: queue_key(w[0], day.replace(minute=w[1]), Rules()))
    assert ordered == [waiting[3], waiting[2], waiting[1], waiting[0]]


@pytest.mark.parametrize("shape", list(RoundType))
def test_image_tournaments_have_image_tasks_only(shape: RoundType):
    assert choose_task(SECRET, IMAGE, shape, TaskPlace("m", 0, 1), Rules()).task_type is TaskType.IMAGE


def test_a_pairs_type_follows_from_the_match_so_that_a_replacement_keeps_it():
    matches = [f"round_pair_{i:03d}" for i in range(64)]
    first = [choose_task(SECRET, TEXT, KNOCKOUT, TaskPlace(m, 0, 1), Rules()) for m in matches]
    again = [choose_task(SECRET, TEXT, KNOCKOUT, TaskPlace(m, 0, 2), Rules()) for m in matches]
    assert [r.task_type for r in first] == [r.task_type for r in again]
    assert {r.task_type for r in first} == {TaskType.INSTRUCT, TaskType.DPO, TaskType.GRPO}
    assert {r.model_range_b for r in first} == {(0.1, 12.0)}
    assert all(one.seed != other.seed for one, other in zip(first, again, strict=True))


def test_task_seeds_recomputed_by_hand():
    place = TaskPlace("tourn_a_20260101_round_001_pair_002", 3, 1)
    expected = hashlib.sha256(f"{SECRET}|split|round_001_pair_002/3/1".encode()).digest()
    assert task_seed(SECRET, "split", place) == expected
    assert task_seed(SECRET, "task", place) != expected
    assert task_seed("33" * 32, "split", place) != expected
    assert choose_task(SECRET, TEXT, GROUP, place, Rules()).seed == task_seed(SECRET, "task", place)


def test_a_task_knows_its_place():
    (task, *_) = Arena(miners(8)).open().until_active(1).tasks(1)
    assert task.place == TaskPlace(task.match_id, 0, 1)
    assert task.task_id == task_id(task.place)


def test_a_demonstration_repeats_on_another_day_because_seeds_know_no_tournament():
    today, tomorrow = (TaskPlace(f"tourn_a_2026010{day}_round_002_pair_001", 0, 1) for day in (1, 2))
    assert choose_task(SECRET, TEXT, KNOCKOUT, today, Rules()) == choose_task(SECRET, TEXT, KNOCKOUT, tomorrow, Rules())
    assert task_id(today) != task_id(tomorrow)


def hours(
    rows: int, rules: Rules | None = None, kind: TournamentType = TEXT, shape: RoundType = KNOCKOUT
) -> set[float]:
    return {
        training_hours(SECRET, kind, shape, TaskPlace(f"match {i}", 0, 1), rows, rules or Rules()) for i in range(80)
    }


@pytest.mark.parametrize(
    ("rows", "band"),
    [
        (1, {1, 2, 3}),
        (10_000, {1, 2, 3}),
        (10_001, {2, 3, 4}),
        (25_000, {2, 3, 4}),
        (25_001, {3, 4, 5}),
        (50_000, {3, 4, 5}),
        (50_001, {3, 4, 5, 6}),
        (100_000, {3, 4, 5, 6}),
        (100_001, {4, 5, 6}),
        (500_000, {4, 5, 6}),
        (9_000_000, {4, 5, 6}),
    ],
)
def test_hours_by_rows_with_both_ends_of_a_band(rows: int, band: set[float]):
    assert hours(rows) == band


def test_image_tasks_take_one_or_two_hours_and_text_groups_two():
    assert hours(10**6, kind=IMAGE) == {1, 2}
    assert hours(10**6, kind=IMAGE, shape=GROUP) == {1, 2}
    assert hours(10**6, shape=GROUP) == {2}


def test_a_demonstration_scales_every_time_limit():
    assert hours(1, Rules(hours_scale=0.01)) == {0.01, 0.02, 0.03}
    assert hours(1, Rules(hours_scale=0.5), shape=GROUP) == {1.0}


@given(st.integers(1, 10**7), st.text("0123456789abcdef", min_size=1))
def test_hours_are_whole_and_inside_the_widest_band(rows: int, match_id: str):
    place = TaskPlace(match_id, 0, 1)
    drawn = training_hours(SECRET, TEXT, BOSS, place, rows, Rules())
    assert drawn in {1, 2, 3, 4, 5, 6}
    assert drawn == training_hours(SECRET, TEXT, BOSS, place, rows, Rules())


def test_every_entrant_of_a_match_is_assigned_to_each_of_its_tasks():
    made = assign_nodes_to_tournament_tasks("tid", [("t1", ["a", "b"]), ("t2", ["a", "b"]), ("t3", ["c"])])
    assert [(a.task_id, a.hotkey) for a in made] == [("t1", "a"), ("t1", "b"), ("t2", "a"), ("t2", "b"), ("t3", "c")]
    assert made[0].expected_repo_name == "tournament-tid-t1-a"
