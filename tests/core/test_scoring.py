"""The order of a task's entrants by metric (RULES §7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from tourney_ray.core.events import Ranked
from tourney_ray.core.metrics import LOSS, METRICS, REWARD, Direction, Metric
from tourney_ray.core.models import TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.core.scoring import Submission, image_loss, ordinal, rank_task, spell


def rank(metric: Metric, submissions: Sequence[Submission], rules: Rules | None = None) -> tuple[Ranked, ...]:
    return rank_task(metric, submissions, rules or Rules())


def field(*values: float | None) -> list[Submission]:
    """Entrants `e0`, `e1` … in registration order."""
    return [Submission(f"e{i}", i, value) for i, value in enumerate(values)]


def order(metric: Metric, *values: float | None) -> list[str]:
    return [r.hotkey for r in rank(metric, field(*values))]


def scores(submissions: list[Submission], metric: Metric = LOSS) -> list[int]:
    return [r.score for r in rank(metric, submissions)]


def test_only_grpo_wants_a_high_number():
    assert [t for t in TaskType if METRICS[t].direction is Direction.HIGHER] == [TaskType.GRPO]


def test_losses_rank_ascending_and_rewards_descending():
    assert order(LOSS, 0.5, 0.25, 1.0) == ["e1", "e0", "e2"]
    assert order(REWARD, 0.5, 0.25, 1.0) == ["e2", "e0", "e1"]
    assert order(REWARD, -2.0, -1.0, 0.0) == ["e2", "e1", "e0"]


def test_the_best_scores_three_and_the_others_nothing():
    ranking = rank(LOSS, field(0.5, 0.25, 1.0))
    assert [(r.score, r.place) for r in ranking] == [(3, 1), (0, 2), (0, 3)]
    assert ranking[0].because == "1st of 3 by loss 0.25"


@pytest.mark.parametrize(("count", "penalised"), [(8, 0), (9, 2), (11, 2), (12, 3), (20, 5)])
def test_above_eight_valid_the_last_quarter_loses_a_point(count: int, penalised: int):
    assert scores(field(*map(float, range(count)))) == [3, *[0] * (count - 1 - penalised), *[-1] * penalised]


def test_the_invalid_do_not_count_towards_the_quarter_and_lose_a_point():
    assert scores(field(*map(float, range(8)), None, math.nan)) == [3, *[0] * 7, -1, -1]


def test_nobody_valid_nobody_scores():
    assert scores(field(None, math.inf)) == [0, 0]


def test_ties_stand_in_registration_order():
    late_first = [Submission("late", 2, 0.5), Submission("early", 1, 0.5), Submission("best", 3, 0.25)]
    assert [r.hotkey for r in rank(LOSS, late_first)] == ["best", "early", "late"]
    assert [r.hotkey for r in rank(REWARD, late_first)] == ["early", "late", "best"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("metric", [LOSS, REWARD])
def test_a_metric_that_is_not_finite_is_invalid(value: float | None, metric: Metric):
    valid, invalid = rank(metric, field(value, 99.0))
    assert valid.hotkey == "e1"
    assert (invalid.valid, invalid.place, invalid.score) == (False, None, -1)
    assert invalid.because == f"not ranked: the metric is {spell(value)}, not a finite number"


def test_weights_of_the_base_model_and_refused_checkpoints_are_invalid():
    untrained = Submission("idle", 0, 0.1, fine_tuned=False)
    refused = Submission("cheat", 1, 0.1, refused="pickled code in the checkpoint")
    ranking = rank(LOSS, [refused, untrained, Submission("honest", 2, 5.0)])
    assert [r.hotkey for r in ranking] == ["honest", "idle", "cheat"]
    assert ranking[1].because == "not ranked: the weights are the base model's: nothing was trained"
    assert ranking[2].because == "not ranked: pickled code in the checkpoint"


def test_of_equal_weights_only_the_earliest_registered_counts():
    copies = [Submission("copy", 5, 0.5, digest="d"), Submission("first", 3, 0.5, digest="d")]
    ranking = rank(LOSS, [*copies, Submission("other", 9, 0.5, digest="x")])
    assert [(r.hotkey, r.valid) for r in ranking] == [("first", True), ("other", True), ("copy", False)]
    assert ranking[-1].because == "not ranked: the same weights as first, who registered earlier"


def test_the_champion_is_never_the_duplicate():
    ranking = rank(LOSS, [Submission("thief", 0, 0.5, digest="d"), Submission("champ", -1, 0.5, digest="d")])
    assert [(r.hotkey, r.valid) for r in ranking] == [("champ", True), ("thief", False)]


def test_equal_losses_alone_prove_nothing():
    assert all(r.valid for r in rank(LOSS, field(0.5, 0.5, 0.5)))


def test_an_invalid_original_does_not_make_a_duplicate():
    broken = Submission("first", 0, math.nan, digest="d")
    ranking = rank(LOSS, [broken, Submission("second", 1, 0.5, digest="d")])
    assert [(r.hotkey, r.valid) for r in ranking] == [("second", True), ("first", False)]


@pytest.mark.parametrize(
    ("place", "spelt"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (112, "112th"),
    ],
)
def test_ordinals(place: int, spelt: str):
    assert ordinal(place) == spelt


def test_values_are_spelt_with_six_digits():
    assert [spell(v) for v in (None, 1.23456789, math.nan, -0.5)] == ["none", "1.23457", "nan", "-0.5"]


metrics = st.sampled_from([LOSS, REWARD])
values = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 0.5, 1.0])


@st.composite
def fields(draw: st.DrawFn) -> list[Submission]:
    count = draw(st.integers(1, 14))
    return [
        Submission(
            hotkey=f"e{i}",
            registered=i - 1,
            value=draw(values),
            fine_tuned=draw(st.sampled_from([True, True, True, False])),
            digest=draw(st.sampled_from(["", "", "d1", "d2"])),
            refused=draw(st.sampled_from(["", "", "", "unsafe"])),
        )
        for i in range(count)
    ]


@given(metrics, fields(), st.data())
def test_the_order_of_arrival_does_not_matter(metric: Metric, submissions: list[Submission], data: st.DataObject):
    shuffled = data.draw(st.permutations(submissions))
    assert repr(rank(metric, shuffled)) == repr(rank(metric, submissions))


@given(metrics, fields())
def test_a_ranking_is_a_permutation_with_one_best(metric: Metric, submissions: list[Submission]):
    ranking = rank(metric, submissions)
    valid = [r for r in ranking if r.valid]
    assert sorted(r.hotkey for r in ranking) == sorted(s.hotkey for s in submissions)
    assert [r.place for r in ranking] == [*range(1, len(valid) + 1), *[None] * (len(ranking) - len(valid))]
    assert [r.score for r in ranking].count(3) == (1 if valid else 0)
    assert {r.score for r in ranking} <= {3, 0, -1}
    assert all(r.score == -1 for r in ranking if valid and not r.valid)
    assert sum(r.score == -1 for r in valid) == (max(1, len(valid) // 4) if len(valid) > 8 else 0)


@given(metrics, fields())
def test_no_entrant_stands_before_a_better_one(metric: Metric, submissions: list[Submission]):
    valid = [r for r in rank(metric, submissions) if r.valid]
    registered = {s.hotkey: s.registered for s in submissions}
    for one, other in pairwise(valid):
        assert one.value is not None
        assert other.value is not None
        assert not metric.better(other.value, one.value)
        assert metric.better(one.value, other.value) or registered[one.hotkey] < registered[other.hotkey]


@given(metrics, fields(), st.integers(0, 13), st.floats(0, 1e6))
def test_a_better_value_never_costs_a_place(metric: Metric, submissions: list[Submission], who: int, step: float):
    who %= len(submissions)
    mine = submissions[who]
    before = {r.hotkey: r.place for r in rank(metric, submissions)}[mine.hotkey]
    if before is None or mine.value is None or not math.isfinite(metric.improved(mine.value, step)):
        return
    better = Submission(mine.hotkey, mine.registered, metric.improved(mine.value, step), digest=mine.digest)
    after = {r.hotkey: r.place for r in rank(metric, [*submissions[:who], better, *submissions[who + 1 :]])}
    assert (after[mine.hotkey] or math.inf) <= before


# --- other rules, images


def test_the_scores_are_the_rules():
    rules = Rules(score_best=5, score_other=1, score_worst=-2, penalised_above=2, penalised_share=0.5)
    assert [r.score for r in rank(LOSS, field(0.1, 0.2, 0.3, 0.4, None), rules)] == [5, 1, -2, -2, -2]
    assert [r.score for r in rank(LOSS, field(None, math.nan), rules)] == [1, 1]


def test_an_image_loss_weighs_losses_with_and_without_a_prompt():
    assert image_loss([1.0, 3.0], [4.0], Rules()) == 0.25 * 2.0 + 0.75 * 4.0
    assert image_loss([1.0], [4.0], Rules(image_text_guided_share=1.0)) == 1.0


@pytest.mark.parametrize(("guided", "free"), [([], [1.0]), ([1.0], []), ([], [])])
def test_an_image_loss_of_an_empty_list_is_invalid(guided: list[float], free: list[float]):
    assert math.isnan(image_loss(guided, free, Rules()))


@given(st.lists(st.floats(0, 10), min_size=1), st.lists(st.floats(0, 10), min_size=1))
def test_an_image_loss_lies_between_its_means(guided: list[float], free: list[float]):
    loss = image_loss(guided, free, Rules())
    assert min(*guided, *free) - 1e-9 <= loss <= max(*guided, *free) + 1e-9
