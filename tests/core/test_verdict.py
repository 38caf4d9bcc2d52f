"""Who advances from a match (RULES §3, §7, §8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from tourney_ray.core.events import Ranked, TaskDecided
from tourney_ray.core.metrics import LOSS, REWARD, Metric
from tourney_ray.core.models import TaskStatus
from tourney_ray.core.rules import BossEquality, Rules
from tourney_ray.core.scoring import Submission, rank_task
from tourney_ray.core.verdict import (
    boss_margin,
    challenger_wins,
    decide_boss_round,
    decide_boss_task,
    decide_group,
    decide_pair,
    performance_difference,
)

finite = st.floats(-1e6, 1e6)


def rank(metric: Metric, submissions: Sequence[Submission], rules: Rules | None = None) -> tuple[Ranked, ...]:
    return rank_task(metric, submissions, rules or Rules())


def ranking(metric: Metric, *values: float | None) -> tuple[Ranked, ...]:
    return rank(metric, [Submission(f"e{i}", i, value) for i, value in enumerate(values)])


def boss(
    metric: Metric,
    champion: float | None,
    challenger: float | None,
    margin: float = 0.1,
    equality: BossEquality = "champion",
) -> str:
    by_hotkey = {
        r.hotkey: r for r in rank(metric, [Submission("champ", -1, champion), Submission("rival", 0, challenger)])
    }
    return decide_boss_task(metric, by_hotkey["champ"], by_hotkey["rival"], margin, equality)[0]


# --- groups


def test_the_best_eight_of_a_group_advance_in_their_order():
    decision = decide_group(ranking(LOSS, *[1 - i / 16 for i in range(10)]), Rules())
    assert decision.advancing == tuple(f"e{i}" for i in range(9, 1, -1))
    assert decision.because == "the best 8 of 10 advance; 10 had a valid metric"
    verdicts = {v.hotkey: v for v in decision.verdicts}
    assert verdicts["e9"].because == "1st of 10 by loss 0.4375"
    assert verdicts["e1"].because == "9th of 10 by loss 0.9375; the best 8 advance, the 8th had 0.875"
    assert [v.hotkey for v in decision.verdicts if not v.advances] == ["e1", "e0"]


def test_in_a_group_the_higher_reward_advances():
    assert decide_group(ranking(REWARD, 0.1, 0.9, 0.5), Rules(group_advance=2)).advancing == ("e1", "e2")


def test_the_invalid_never_advance_even_where_there_is_room():
    decision = decide_group(ranking(LOSS, 0.5, None, math.nan), Rules())
    assert decision.advancing == ("e0",)
    assert decision.verdicts[1].because == "not ranked: the metric is none, not a finite number"


def test_a_group_without_any_valid_metric_sends_nobody():
    decision = decide_group(ranking(LOSS, None, None), Rules())
    assert decision.advancing == ()
    assert not any(v.advances for v in decision.verdicts)


@given(st.lists(st.none() | st.floats(), min_size=1, max_size=14), st.integers(1, 8))
def test_every_entrant_of_a_group_has_one_verdict(values: list[float | None], advance: int):
    ranked = ranking(LOSS, *values)
    decision = decide_group(ranked, Rules(group_advance=advance))
    assert [v.hotkey for v in decision.verdicts] == [r.hotkey for r in ranked]
    assert [v.hotkey for v in decision.verdicts if v.advances] == list(decision.advancing)
    assert len(decision.advancing) == min(advance, sum(r.valid for r in ranked))
    assert all(v.because for v in decision.verdicts)


# --- pairs


def test_the_better_of_a_pair_advances():
    decision = decide_pair(ranking(LOSS, 0.5, 0.25), LOSS)
    assert decision.advancing == ("e1",)
    assert decision.because == "e1 by loss 0.25 against 0.5"
    assert [(v.hotkey, v.advances, v.because) for v in decision.verdicts] == [
        ("e1", True, "loss 0.25 against 0.5 of e0"),
        ("e0", False, "loss 0.5 against 0.25 of e1"),
    ]
    assert decide_pair(ranking(REWARD, 0.5, 0.25), REWARD).advancing == ("e0",)


def test_of_equals_the_earlier_registered_advances():
    decision = decide_pair(ranking(LOSS, 0.5, 0.5), LOSS)
    assert decision.advancing == ("e0",)
    assert decision.verdicts[1].because.endswith("; of equals the earlier registered advances")


def test_the_only_valid_one_advances():
    decision = decide_pair(ranking(LOSS, None, 7.0), LOSS)
    assert decision.advancing == ("e1",)
    assert decision.because == "e1 has the only valid loss: 7"
    assert decision.verdicts[0].because == "the only valid loss of the pair: 7"
    assert decision.verdicts[1].because.startswith("not ranked: ")


def test_of_none_valid_nobody_advances():
    decision = decide_pair(ranking(LOSS, None, math.inf), LOSS)
    assert decision.advancing == ()
    assert decision.because == "neither has a valid metric: nobody advances from this pair"
    assert [v.advances for v in decision.verdicts] == [False, False]


# --- the boss round


@pytest.mark.parametrize(
    ("wins", "margin"), [(0, 0.125), (1, 0.10), (2, 0.08), (3, 0.064), (6, 0.032768), (7, 0.03), (50, 0.03)]
)
def test_the_margin_falls_with_each_win_to_three_per_cent(wins: int, margin: float):
    assert boss_margin(wins, Rules()) == pytest.approx(margin, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "champion", "challenger", "winner"),
    [
        (LOSS, 2.0, 1.5, "champ"),  # exactly 2 − 0.25·2: equality is the champion's
        (LOSS, 2.0, math.nextafter(1.5, 0), "rival"),
        (LOSS, -2.0, -2.5, "champ"),
        (LOSS, -2.0, math.nextafter(-2.5, -3), "rival"),
        (LOSS, 0.0, 0.0, "champ"),
        (LOSS, 0.0, -1e-300, "rival"),
        (REWARD, 2.0, 2.5, "champ"),
        (REWARD, 2.0, math.nextafter(2.5, 3), "rival"),
        (REWARD, -2.0, -1.5, "champ"),
        (REWARD, -2.0, math.nextafter(-1.5, 0), "rival"),
        (REWARD, -2.0, -2.1, "champ"),
        (REWARD, 0.0, 0.0, "champ"),
        (REWARD, 0.0, 1e-300, "rival"),
    ],
)
def test_a_challenger_must_be_strictly_better_than_the_margin(
    metric: Metric, champion: float, challenger: float, winner: str
):
    assert boss(metric, champion, challenger, margin=0.25) == winner


@pytest.mark.parametrize(
    ("metric", "champion", "challenger", "winner"),
    [
        (LOSS, 2.0, 1.5, "rival"),
        (LOSS, 2.0, math.nextafter(1.5, 2), "champ"),
        (REWARD, 2.0, 2.5, "rival"),
        (REWARD, 2.0, math.nextafter(2.5, 2), "champ"),
        (LOSS, -2.0, -2.5, "champ"),  # not both positive: equality stays the champion's
        (REWARD, -2.0, -1.5, "champ"),
        (LOSS, 0.0, 0.0, "champ"),
        (REWARD, -2.0, 0.5, "rival"),
        (LOSS, 2.0, -0.5, "rival"),
    ],
)
def test_equality_may_be_the_challengers_where_both_are_positive(
    metric: Metric, champion: float, challenger: float, winner: str
):
    assert boss(metric, champion, challenger, margin=0.25, equality="challenger") == winner


def test_a_challenger_that_is_exactly_good_enough_reaches_the_bound():
    valid = rank(LOSS, [Submission("champ", -1, 2.0), Submission("rival", 0, 1.5)])
    _, because = decide_boss_task(LOSS, valid[1], valid[0], 0.25, "challenger")
    assert because.startswith("the challenger's loss 1.5 reaches 1.5, the champion's 2 bettered by 25 %")


@given(finite, finite, st.floats(0.01, 0.2), st.sampled_from([LOSS, REWARD]))
def test_who_has_equality_matters_at_the_bound_only(b: float, c: float, margin: float, metric: Metric):
    one, bound = challenger_wins(metric, b, c, margin, "champion")
    other, _ = challenger_wins(metric, b, c, margin, "challenger")
    assert one == other or math.isclose(c, bound, rel_tol=1e-12)
    assert other or not one or math.isclose(c, bound, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("champion", "challenger", "winner"),
    [
        (None, None, "champ"),
        (1.0, None, "champ"),
        (1.0, math.nan, "champ"),
        (None, 9.0, "rival"),
        (math.inf, 9.0, "rival"),
    ],
)
@pytest.mark.parametrize("metric", [LOSS, REWARD])
def test_missing_values_of_a_boss_task(metric: Metric, champion: float | None, challenger: float | None, winner: str):
    assert boss(metric, champion, challenger) == winner


def test_reasons_of_a_boss_task_name_the_bound():
    ranked = rank(LOSS, [Submission("champ", -1, 2.0), Submission("rival", 0, 1.0)])
    winner, because = decide_boss_task(LOSS, ranked[1], ranked[0], 0.125, "champion")
    assert winner == "rival"
    assert because == "the challenger's loss 1 beats 1.75, the champion's 2 bettered by 12.5 %"
    valid, invalid = ranking(LOSS, 1.0, None)
    _, missing = decide_boss_task(LOSS, valid, invalid, 0.1, "champion")
    assert missing == (
        "the challenger is not ranked: the metric is none, not a finite number; the champion keeps the task"
    )


@given(st.sampled_from([LOSS, REWARD]), finite, finite, st.floats(0.03, 0.125))
def test_nobody_takes_a_task_with_a_worse_or_equal_value(metric: Metric, b: float, c: float, margin: float):
    winner = boss(metric, b, c, margin)
    if not metric.better(c, b):
        assert winner == "champ"
    if metric.gain(b, c) > (margin + 1e-9) * abs(b):
        assert winner == "rival"


def decided(*winners: str | None) -> list[TaskDecided]:
    return [
        TaskDecided(
            tournament_id="t", task_id=f"{i}", status=TaskStatus.SUCCESS, ranking=(), winner=w, because="tested"
        )
        for i, w in enumerate(winners)
    ]


@pytest.mark.parametrize(
    ("won", "planned", "winner"),
    [(4, 6, "rival"), (3, 6, "champ"), (0, 6, "champ"), (1, 1, "rival"), (2, 3, "rival"), (1, 3, "champ")],
)
def test_the_title_takes_more_than_half_of_the_planned_tasks(won: int, planned: int, winner: str):
    tasks = decided(*["rival"] * won, *["champ"] * (planned - won))
    decision = decide_boss_round("champ", "rival", tasks, planned)
    assert decision.advancing == (winner,)
    assert [(v.hotkey, v.advances) for v in decision.verdicts] == [
        (winner, True),
        ("champ" if winner == "rival" else "rival", False),
    ]


def test_half_of_the_planned_tasks_is_not_enough_when_others_have_no_winner():
    assert decide_boss_round("champ", "rival", decided("rival", "rival", "rival", None), 6).advancing == ("champ",)


def test_the_score_of_a_boss_round_is_spelt():
    decision = decide_boss_round("champ", "rival", decided(*["rival"] * 4, "champ", "champ"), 6)
    assert decision.because == "the challenger won 4 of 6 tasks, 4 take the title: rival is the new champion"
    decision = decide_boss_round("champ", "rival", decided(*["rival"] * 3, *["champ"] * 3), 6)
    assert decision.because == "the challenger won 3 of 6 tasks, 4 take the title: champ defends"


# --- performance difference


def test_performance_difference_is_the_median_gain():
    pairs = [(LOSS, 2.0, 1.0), (LOSS, 1.0, 1.25), (REWARD, 1.0, 1.125)]
    assert performance_difference(pairs) == 0.125
    assert performance_difference([*pairs, (REWARD, -1.0, -0.5)]) == (0.125 + 0.5) / 2


def test_a_champion_of_zero_counts_as_no_difference():
    assert performance_difference([(LOSS, 0.0, -1.0), (REWARD, 0.0, 5.0)]) == 0.0
    assert performance_difference([(LOSS, 0.0, -1.0), (LOSS, 4.0, 1.0)]) == 0.375


def test_tasks_without_both_values_do_not_count():
    assert performance_difference([(LOSS, None, 1.0), (LOSS, 1.0, None), (LOSS, 4.0, 1.0)]) == 0.75
    assert performance_difference([(LOSS, None, None)]) == 0.0
    assert performance_difference([]) == 0.0


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_better_is_positive_in_either_direction_and_sign(b: float, c: float):
    assert (performance_difference([(LOSS, b, c)]) > 0) == (c < b)
    assert (performance_difference([(LOSS, -b, -c)]) > 0) == (-c < -b)
    assert (performance_difference([(REWARD, b, c)]) > 0) == (c > b)
    assert performance_difference([(LOSS, b, c)]) == -performance_difference([(REWARD, b, c)])
