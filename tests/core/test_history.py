"""Past tasks that a boss round may use again (RULES §4)."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tourney_ray.core.history import PastTask, draw_history, eligible_history
from tourney_ray.core.ids import TaskPlace
from tourney_ray.core.models import TaskOrigin, TaskStatus, TaskType
from tourney_ray.core.rules import Rules

SECRET = "22" * 32
JUNE, AUGUST = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 8, 1, tzinfo=UTC)
RULES = Rules(history_from=JUNE, history_until=AUGUST)
FIT = PastTask("p1", TaskType.DPO, TaskOrigin.TOURNAMENT, JUNE, TaskStatus.SUCCESS, (1.0, 0.5))
PLACE = TaskPlace("tourn_x_round_003_pair_001", 2, 1)


def eligible(task: PastTask, rules: Rules = RULES, chosen: tuple[str, ...] = ()) -> bool:
    return bool(eligible_history([task], TaskType.DPO, chosen, rules))


@pytest.mark.parametrize(
    ("changed", "fit"),
    [
        ({}, True),
        ({"origin": TaskOrigin.BENCHMARK}, True),
        ({"origin": TaskOrigin.ORGANIC}, False),
        ({"task_type": TaskType.GRPO}, False),
        ({"status": TaskStatus.FAILURE}, False),
        ({"scores": (1.0,)}, False),
        ({"scores": (1.0, None, math.nan, -math.inf)}, False),
        ({"scores": (1.0, None, 2.0)}, True),
        ({"created_at": JUNE - timedelta(seconds=1)}, False),
        ({"created_at": AUGUST - timedelta(seconds=1)}, True),
        ({"created_at": AUGUST}, False),
    ],
)
def test_what_makes_a_past_task_fit(changed: dict[str, Any], fit: bool):
    assert eligible(replace(FIT, **changed)) is fit


def test_a_task_is_chosen_once():
    assert not eligible(FIT, chosen=("p1",))
    assert eligible(FIT, chosen=("p2",))


def test_without_a_window_any_age_will_do():
    assert eligible(replace(FIT, created_at=datetime(1999, 1, 1, tzinfo=UTC)), Rules())
    assert eligible(replace(FIT, created_at=datetime(2099, 1, 1, tzinfo=UTC)), Rules())
    assert not eligible(FIT, Rules(history_min_scores=3))


def test_the_best_score_follows_the_metric():
    assert FIT.best_score == 0.5
    assert replace(FIT, task_type=TaskType.GRPO, scores=(1.0, None, math.inf, 0.5)).best_score == 1.0
    assert replace(FIT, scores=(None, math.nan)).best_score is None


def test_nothing_eligible_nothing_drawn():
    assert draw_history(SECRET, PLACE, []) is None


@given(st.lists(st.text("abc", min_size=1), unique=True, min_size=1), st.data())
def test_the_secret_seed_draws_whatever_the_order_of_the_history(names: list[str], data: st.DataObject):
    past = [replace(FIT, task_id=name) for name in names]
    drawn = draw_history(SECRET, PLACE, past)
    assert drawn in past
    assert draw_history(SECRET, PLACE, data.draw(st.permutations(past))) == drawn


def test_slots_and_seeds_draw_differently():
    past = [replace(FIT, task_id=f"p{i}") for i in range(50)]
    drawn = {draw_history(SECRET, replace(PLACE, slot=slot), past) for slot in range(6)}
    assert len(drawn) > 1
    assert draw_history("33" * 32, PLACE, past) != draw_history(SECRET, PLACE, past)
    assert draw_history(SECRET, replace(PLACE, preparation=2), past) == draw_history(SECRET, PLACE, past)
