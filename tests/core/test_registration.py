"""Who is in, who is not, and who pays (RULES §2, §3)."""

from __future__ import annotations

from typing import Any

from tests.builders import CHAMPION, DRAW_SEED, START, credit, miners, offer
from tests.core.arena import Arena
from tourney_ray.core import events as e
from tourney_ray.core.draw import drawn_order, final_seed
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import (
    Refusal,
    TournamentType,
)
from tourney_ray.core.rules import Rules
from tourney_ray.core.settle import settle

FEE = 200_000_000


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
    assert arena.tournament.charges == {
        "m00": e.Charged(tournament_id="text-1", hotkey="m00", coldkey="c-m00", rao=FEE)
    }
    assert arena.stage.state.balances == {"c-m00": 0}
    assert arena.kinds[-3:] == ["RegistrationPassed", "Charged", "EntrantAccepted"]
    (accepted, _) = arena.stage.facts[-1]
    assert isinstance(accepted, e.EntrantAccepted)
    assert accepted.because == f"tree {offer('m00').tree_hash[:12]} passed the vetting, 0.2 TAO paid by c-m00"


def test_an_image_tournament_has_its_own_fee():
    arena = Arena(miners(8)).open(TournamentType.IMAGE)
    arena.step()
    assert {charge.rao for charge in arena.tournament.charges.values()} == {150_000_000}


def test_who_cannot_pay_is_refused_with_both_amounts_and_keeps_the_money():
    arena = answered(offer("m00"), paid={"c-m00": FEE - 1})
    assert arena.tournament.refusals == {"m00": "the balance of c-m00 is 0.199999999 TAO, the fee is 0.2 TAO"}
    assert arena.stage.state.balances == {"c-m00": FEE - 1}
    assert answered(offer("m00"), paid={}).tournament.charges == {}


def test_a_refused_miner_pays_nothing():
    arena = answered(Refusal(hotkey="m00", reason="no dockerfile"), paid={"c-m00": FEE})
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
    arena = Arena([], rules=Rules(min_miners=6), beacon="the block after next").open()
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
