"""What the rules force: registration, rounds, verdicts and the end (RULES §2, §3, §7, §8, §9)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from tests.builders import CHAMPION, DRAW_SEED, START, credit, evaluated, miners, offer
from tests.core.arena import CRASH, NODE_LOST, Arena, by_number, measured, trained
from tourney_ray.core import events as e
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.draw import drawn_order, final_seed
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import (
    METRICS,
    Evaluated,
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

FEE = 200_000_000
GROUP, KNOCKOUT, BOSS = RoundType.GROUP, RoundType.KNOCKOUT, RoundType.BOSS
NAN = float("nan")
ANY_TWO = Rules(min_miners=2)


def shapes(t: Tournament) -> list[tuple[RoundType, int, int]]:
    """Type, number of matches and number of byes of each round."""
    return [(r.round_type, len(r.matches), len(r.byes)) for r in t.rounds]


def end(t: Tournament) -> tuple[str | None, str]:
    assert t.completed is not None
    return t.completed.winner, t.completed.title


# --- registration


def answered(*answers: e.Answer, paid: dict[str, int], **changed: Any) -> Arena:
    """A tournament after its first pass, with so much money by coldkey."""
    arena = Arena(**changed).open()
    for coldkey, rao in paid.items():
        arena.stage.record(e.TransferCredited(transfer_id=coldkey, coldkey=coldkey, rao=rao))
    arena.stage.record(e.RegistrationPassed(tournament_id="text-1", number=1, answers=answers))
    return arena


def test_who_passed_the_vetting_and_pays_is_in():
    arena = answered(offer("m00"), paid={"c-m00": FEE})
    assert arena.tournament.entrants == {"m00": offer("m00")}
    assert (arena.tournament.charges, arena.stage.state.balances) == ({"m00": FEE}, {"c-m00": 0})
    assert arena.kinds[-3:] == ["RegistrationPassed", "Charged", "EntrantAccepted"]
    (accepted, _) = arena.stage.facts[-1]
    assert isinstance(accepted, e.EntrantAccepted)
    assert accepted.because == f"tree {offer('m00').tree_hash[:12]} passed the vetting, 0.2 TAO paid by c-m00"


def test_an_image_tournament_has_its_own_fee():
    arena = Arena(miners(8)).open(TournamentType.IMAGE)
    arena.step()
    assert set(arena.tournament.charges.values()) == {150_000_000}


def test_who_cannot_pay_is_refused_with_both_amounts_and_keeps_the_money():
    arena = answered(offer("m00"), paid={"c-m00": FEE - 1})
    assert arena.tournament.refusals == {"m00": "the balance of c-m00 is 0.199999999 TAO, the fee is 0.2 TAO"}
    assert arena.stage.state.balances == {"c-m00": FEE - 1}
    assert answered(offer("m00"), paid={}).tournament.charges == {}


def test_a_refused_miner_pays_nothing():
    arena = answered(e.OfferRefused(hotkey="m00", reason="no dockerfile"), paid={"c-m00": FEE})
    assert arena.tournament.refusals == {"m00": "no dockerfile"}
    assert arena.stage.state.balances == {"c-m00": FEE}


def test_a_shared_account_that_covers_one_fee_enters_the_first_only():
    shared = [offer(h).model_copy(update={"coldkey": "shared"}) for h in ("m00", "m01")]
    arena = answered(*shared, paid={"shared": 2 * FEE - 1})
    assert list(arena.tournament.entrants) == ["m00"]
    assert arena.tournament.refusals["m01"].startswith("the balance of shared is 0.199999999 TAO")


def test_of_two_answers_of_one_hotkey_the_first_counts():
    other = offer("m00").model_copy(update={"commit": "f" * 40})
    arena = answered(offer("m00"), other, paid={"c-m00": 9 * FEE})
    assert arena.tournament.entrants == {"m00": offer("m00")}
    assert arena.stage.state.balances == {"c-m00": 8 * FEE}


def test_the_champions_own_answer_does_not_enter_it_a_second_time():
    arena = answered(offer(CHAMPION), offer("m00"), paid={f"c-{CHAMPION}": FEE, "c-m00": FEE})
    assert list(arena.tournament.entrants) == ["m00"]
    assert arena.stage.state.balances[f"c-{CHAMPION}"] == FEE
    assert CHAMPION not in arena.tournament.refusals


def test_a_refused_miner_may_answer_better_and_nobody_pays_twice():
    arena = answered(offer("m00"), offer("m01"), paid={"c-m00": 9 * FEE})
    arena.stage.record(credit("m01"))
    again = (offer("m00").model_copy(update={"commit": "f" * 40}), offer("m01"))
    arena.stage.record(e.RegistrationPassed(tournament_id="text-1", number=2, answers=again))
    assert arena.tournament.entrants == {"m00": offer("m00"), "m01": offer("m01")}
    assert arena.tournament.refusals == {}
    assert arena.stage.state.balances["c-m00"] == 8 * FEE
    assert arena.tournament.accepted_in == {"m00": 1, "m01": 2}


def test_a_crash_between_charge_and_acceptance_charges_nobody_twice():
    arena = Arena().open()
    arena.stage.record(credit("m00"))
    state = evolve(
        arena.stage.state, e.RegistrationPassed(tournament_id="text-1", number=1, answers=(offer("m00"),)), START
    )
    charged, accepted = settle(state)
    assert settle(evolve(state, charged, START)) == (accepted,)


def test_registration_order_is_by_pass_and_within_a_pass_by_draw():
    arena = Arena([], rules=Rules(min_miners=6)).open()
    for hotkey in miners(6):
        arena.stage.record(credit(hotkey))
    late, early = miners(6)[:3], miners(6)[3:]
    for number, hotkeys in enumerate((early, late), start=1):
        answers = tuple(offer(h) for h in hotkeys)
        arena.stage.record(e.RegistrationPassed(tournament_id="text-1", number=number, answers=answers))
    arena.stage.record(e.TournamentActivated(tournament_id="text-1", draw_seed=DRAW_SEED, beacon="block 7"))
    t = arena.tournament
    assert t.seed == final_seed(DRAW_SEED, [(h, offer(h).commit) for h in (*miners(6), CHAMPION)], "block 7")
    assert list(t.entrants) == [
        *drawn_order(t.seed, 0, "registration", early),
        *drawn_order(t.seed, 0, "registration", late),
    ]


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
    arena = Arena(miners(9)).open().until_active(2)
    strong, weak = arena.tournament.rounds[0].advancing[0], arena.tournament.rounds[0].advancing[-1]
    lost = next(m for m in arena.tournament.rounds[1].matches.values() if not {strong, weak} & set(m.entrants))
    arena.values = {(2, h): NAN for h in lost.entrants}
    t = arena.until_active(3).tournament
    survivors = t.rounds[1].advancing
    assert len(survivors) == 3
    assert t.rounds[2].byes == (survivors[0],) == (strong,)
    assert min(survivors, key=t.registration_rank) != strong


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
def test_without_survivors_the_champion_keeps_the_title(
    champion: e.OfferVetted | None, outcome: tuple[str | None, str]
):
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


# --- the boss round


THREE_AND_THREE = Rules(boss_tasks=(TaskType.INSTRUCT,) * 3 + (TaskType.GRPO,) * 3)


def boss_of(rules: Rules, champion: float, challenger: float, wins: int = 0) -> Arena:
    """A finished tournament whose boss round has these metrics in every task."""
    values = {(4, CHAMPION): champion, (4, "m07"): challenger}
    arena = Arena(miners(8), rules=rules, values=values, champion_wins=wins).open()
    arena.run()
    return arena


def test_four_of_six_take_the_title():
    t = boss_of(Rules(), champion=2.0, challenger=1.0).tournament
    (boss,) = t.rounds[-1].matches.values()
    winners = Counter(d.winner for d in (t.tasks[i].decided for i in boss.tasks.values()) if d)
    assert winners == {"m07": 4, CHAMPION: 2}
    assert end(t) == ("m07", "won")
    assert t.completed is not None
    assert t.completed.performance_difference == 0.5
    assert [s.hotkey for s in t.completed.standings[:2]] == ["m07", CHAMPION]


def test_three_of_six_do_not():
    t = boss_of(THREE_AND_THREE, champion=2.0, challenger=1.0).tournament
    assert end(t) == (CHAMPION, "defended")
    assert t.completed is not None
    places = {s.hotkey: (s.place, s.points) for s in t.completed.standings}
    assert places[CHAMPION] == (1, 0.0)
    assert places["m07"] == (2, pytest.approx((1 + 2 + 3 + 3 * 4) * 0.15))


@pytest.mark.parametrize(
    ("wins", "title", "margin"), [(0, "defended", "12.5 %"), (1, "won", "10 %"), (9, "won", "3 %")]
)
def test_the_margin_falls_with_the_champions_wins(wins: int, title: str, margin: str):
    arena = boss_of(Rules(boss_tasks=(TaskType.INSTRUCT,)), champion=8.0, challenger=7.125, wins=wins)
    assert end(arena.tournament)[1] == title
    reasons = [f.because for f, _ in arena.stage.facts if isinstance(f, e.RoundDrawn)]
    assert reasons[-1] == (
        f"one survivor: m07 challenges {CHAMPION} in 1 tasks, with a margin of {margin} after {wins} wins"
    )


@pytest.mark.parametrize(("challenger", "wins"), [(9.0, 4), (1.0, 1)])
def test_wins_of_a_reign_are_counted_from_the_champions(challenger: float, wins: int):
    arena = boss_of(Rules(boss_tasks=(TaskType.INSTRUCT,)), champion=8.0, challenger=challenger, wins=3)
    assert arena.stage.state.reigns[TournamentType.TEXT].wins == wins


def test_a_stolen_copy_of_the_champion_never_dethrones_it():
    def measures(command: Evaluate) -> Evaluated:
        if len(arena.tournament.rounds) < 4:
            return by_number(command)
        better = METRICS[command.task_type].improved(100.0, 50.0 if command.hotkey == "m07" else 0.0)
        return evaluated(better, digest="the very same weights")

    arena = Arena(miners(8), measures=measures).open()
    t = arena.run()
    assert end(t) == (CHAMPION, "defended")
    assert f"the same weights as {CHAMPION}" in next(
        r.because for d in (task.decided for task in arena.tasks(4)) if d for r in d.ranking if r.hotkey == "m07"
    )


def test_nobody_valid_in_a_boss_task_leaves_it_to_the_champion():
    t = boss_of(Rules(), champion=NAN, challenger=math.inf).tournament
    assert end(t) == (CHAMPION, "defended")
    (boss,) = t.rounds[-1].matches.values()
    assert {(d.status, d.winner) for d in (t.tasks[i].decided for i in boss.tasks.values()) if d} == {
        (TaskStatus.FAILURE, CHAMPION)
    }


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
