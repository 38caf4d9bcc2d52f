"""What the rules force: rounds, tasks, points and the end (RULES §3, §7, §9)."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.builders import CHAMPION, miners, offer
from tests.core.arena import CRASH, NODE_LOST, Arena, measured, trained
from tourney_ray.core import events as e
from tourney_ray.core.evolve import evolve
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import (
    Entrant,
    RoundType,
    TaskStatus,
    TaskType,
    TournamentStatus,
    TournamentType,
    TrainingStatus,
)
from tourney_ray.core.rules import Rules
from tourney_ray.core.settle import forced, settle
from tourney_ray.core.state import State, Tournament

GROUP, KNOCKOUT, BOSS = RoundType.GROUP, RoundType.KNOCKOUT, RoundType.BOSS
NAN = float("nan")
ANY_TWO = Rules(min_miners=2)


def shapes(t: Tournament) -> list[tuple[RoundType, int, int]]:
    """Type, number of matches and number of byes of each round."""
    return [(r.round_type, len(r.matches), len(r.byes)) for r in t.rounds]


def end(t: Tournament) -> tuple[str | None, str]:
    assert t.completed is not None
    return t.completed.winner, t.completed.title


# --- rounds


def test_eight_play_in_pairs_at_once():
    t = Arena(miners(8)).open().run()
    assert shapes(t) == [(KNOCKOUT, 4, 0), (KNOCKOUT, 2, 0), (KNOCKOUT, 1, 0), (BOSS, 1, 0)]


def test_nine_play_in_a_group_whose_best_eight_advance():
    t = Arena(miners(9)).open().run()
    assert shapes(t)[:2] == [(GROUP, 1, 0), (KNOCKOUT, 4, 0)]
    (group,) = t.rounds[0].matches.values()
    assert sorted(group.entrants) == miners(9)
    assert t.rounds[0].advancing == tuple(reversed(miners(9)[1:]))


def test_an_odd_one_out_without_a_group_is_the_earliest_registered():
    t = Arena(miners(5), rules=ANY_TWO).open().run()
    assert shapes(t) == [(KNOCKOUT, 2, 1), (KNOCKOUT, 1, 1), (KNOCKOUT, 1, 0), (BOSS, 1, 0)]
    assert t.rounds[0].byes == (next(iter(t.entrants)),)
    assert [t.registration_rank(h) for h in t.rounds[0].advancing] == sorted(
        t.registration_rank(h) for h in t.rounds[0].advancing
    )


def test_an_odd_one_out_after_a_group_is_its_best():
    values = {(1, "m00"): NAN, (1, "m01"): NAN}
    t = Arena(miners(9), values=values).open().run()
    assert shapes(t)[:2] == [(GROUP, 1, 0), (KNOCKOUT, 3, 1)]
    assert t.rounds[1].byes == ("m08",)
    assert t.rounds[1].advancing[0] == "m08"


def test_an_odd_one_out_later_is_still_the_best_of_the_group():
    arena = Arena(miners(9)).open().until_active(1)
    latest = list(arena.tournament.entrants)[-1]
    arena.values = {(1, latest): 0.0}
    arena.until_active(2)
    lost = next(m for m in arena.tournament.rounds[1].matches.values() if latest not in m.entrants)
    (own,) = [task for task in arena.tasks(2) if latest in task.trainings]
    arena.values = {(2, h): NAN for h in lost.entrants} | {(2, latest): METRICS[own.task_type].improved(0.0, 1e6)}
    t = arena.until_active(3).tournament
    assert len(t.rounds[1].advancing) == 3
    assert t.rounds[2].byes == (latest,)


def test_the_champion_neither_plays_nor_counts_before_the_boss_round():
    t = Arena(miners(8)).open().run()
    assert t.rounds[0].round_type is KNOCKOUT
    assert all(CHAMPION not in m.entrants for r in t.rounds[:-1] for m in r.matches.values())
    (boss,) = t.rounds[-1].matches.values()
    assert boss.entrants == (CHAMPION, "m07")


def test_a_pair_without_a_valid_metric_sends_nobody():
    arena = Arena(miners(8)).open().until_active()
    lost = next(iter(arena.tournament.rounds[0].matches.values())).entrants
    arena.values = {(1, h): NAN for h in lost}
    t = arena.run()
    assert len(t.rounds[0].advancing) == 3
    assert not set(lost) & set(t.rounds[0].advancing)
    assert end(t)[0] is not None


@pytest.mark.parametrize(("champion", "outcome"), [(offer(CHAMPION), (CHAMPION, "defended")), (None, (None, "vacant"))])
def test_without_survivors_the_champion_keeps_the_title(champion: Entrant | None, outcome: tuple[str | None, str]):
    arena = Arena(miners(8), champion=champion, measures=lambda command: measured(command, NAN)).open()
    t = arena.run()
    assert end(t) == outcome
    assert shapes(t) == [(KNOCKOUT, 4, 0)]
    assert t.completed is not None
    assert [(s.hotkey, s.weight) for s in t.completed.standings] == ([(CHAMPION, 1.0)] if champion else [])


def test_a_lone_survivor_without_a_champion_is_uncontested():
    t = Arena(miners(8), champion=None).open().run()
    assert end(t) == ("m07", "uncontested")
    assert shapes(t)[-1] == (KNOCKOUT, 1, 0)
    assert t.completed is not None
    assert (t.completed.standings[0].hotkey, t.completed.performance_difference) == ("m07", 0.0)


# --- tasks


def test_nobody_valid_is_evaluated_four_times_in_all_and_then_a_failure():
    arena = Arena(miners(9), values={(1, h): NAN for h in miners(9)}).open()
    t = arena.run()
    (group,) = arena.tasks(1)
    assert (group.evaluation, group.decided and group.decided.status) == (4, TaskStatus.FAILURE)
    repeated = [f.because for f, _ in arena.stage.facts if isinstance(f, e.EvaluationRepeated)]
    assert repeated == [f"nobody's loss was valid in evaluation {n} of at most 4" for n in (1, 2, 3)]
    assert Counter(arena.kinds)["CheckpointEvaluated"] == 4 * 9
    assert end(t) == (CHAMPION, "defended")


def test_one_valid_metric_is_enough_not_to_evaluate_again():
    arena = Arena(miners(9), values={(1, h): NAN for h in miners(8)}).open()
    t = arena.run()
    assert "EvaluationRepeated" not in arena.kinds
    assert t.rounds[0].advancing == ("m08",)


def test_trainings_that_all_failed_leave_nothing_to_evaluate_again():
    arena = Arena(miners(9), trains=lambda spec: CRASH).open()
    t = arena.run()
    (group,) = arena.tasks(1)
    assert group.decided is not None
    assert (group.evaluation, group.decided.status, group.decided.winner) == (1, TaskStatus.FAILURE, None)
    assert group.decided.ranking[0].because == "not ranked: training failed: exit status 1"
    assert {tr.status for tr in group.trainings.values()} == {TrainingStatus.FAILURE}
    assert {len(tr.attempts) for tr in group.trainings.values()} == {2}
    assert t.status is TournamentStatus.COMPLETED


def test_a_crash_and_then_success_loses_nothing():
    arena = Arena(miners(8), trains=lambda spec: CRASH if spec.epoch == 1 else trained(spec)).open()
    assert end(arena.run()) == ("m07", "won")
    assert all(len(tr.attempts) == 2 for task in arena.tournament.tasks.values() for tr in task.trainings.values())


def test_faults_of_the_platform_cost_nobody_an_attempt():
    arena = Arena(miners(8), trains=lambda spec: NODE_LOST if spec.epoch < 5 else trained(spec)).open()
    assert end(arena.run()) == ("m07", "won")
    assert {len(tr.attempts) for task in arena.tournament.tasks.values() for tr in task.trainings.values()} == {5}


def test_an_image_tournament_has_image_tasks_from_group_to_boss_round():
    arena = Arena(miners(9)).open(TournamentType.IMAGE)
    t = arena.run()
    assert end(t) == ("m08", "won")
    assert {task.task_type for task in t.tasks.values()} == {TaskType.IMAGE}
    assert [len(arena.tasks(n)) for n in range(1, 6)] == [1, 4, 2, 1, 6]
    assert t.completed is not None
    assert {round(s.points / 0.10, 9) % 1 for s in t.completed.standings} == {0.0}


def test_points_go_to_the_winners_of_tasks_by_round():
    t = Arena(miners(8), champion=None).open().run()
    assert t.completed is not None
    points = {s.hotkey: s.points for s in t.completed.standings}
    expected: Counter[str] = Counter()
    for r in t.rounds:
        for m in r.matches.values():
            assert m.decided is not None
            expected[m.decided.advancing[0]] += r.number
    del expected["m07"]
    assert points == {"m07": 0.0, **{h: n * 0.15 for h, n in expected.items()}}


# --- settling


def test_settling_reaches_a_fixed_point_and_empty_states_force_nothing():
    assert settle(State()) == ()
    arena = Arena(miners(9)).open()
    while arena.step():
        assert settle(arena.stage.state) == ()


def test_forced_is_the_fact_with_all_that_follows_from_it():
    arena = Arena(miners(9)).open()
    arena.plan()
    before, known = arena.stage.state, len(arena.stage.facts)
    arena.step()
    fact, at = arena.stage.facts[known]
    facts, state = forced(before, fact, at)
    assert facts == [f for f, _ in arena.stage.facts[known:]]
    assert state == arena.stage.state
    assert len(facts) == 1 + 2 * 9


def test_a_stop_after_any_fact_forces_the_same_facts_again():
    arena = Arena(miners(9), trains=lambda s: CRASH if s.hotkey == "m03" else trained(s), values={(2, "m08"): NAN})
    arena.open().run()
    facts = [fact for fact, _ in arena.stage.facts]
    state = State()
    for index, (fact, at) in enumerate(arena.stage.facts):
        state = evolve(state, fact, at)
        next_ones = settle(state)
        assert list(next_ones) == facts[index + 1 : index + 1 + len(next_ones)]
    assert settle(state) == ()
