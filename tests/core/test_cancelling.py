"""A tournament that a person ends, and every other way in which a fee goes back (RULES §1, §2)."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.builders import DRAW_SEED, START, credit, miners, offer
from tests.core.acts import SAID, active, cancelled, ended, first_train, refused, retried
from tests.core.arena import Arena
from tourney_ray.core import events as e
from tourney_ray.core.commands import Announce, AskMiners, Release, RevealDrawSeed, Train
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import Refusal, TournamentStatus, TournamentType
from tourney_ray.core.plan import plan
from tourney_ray.core.rules import Rules
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.settle import settle
from tourney_ray.core.state import State

FEE = 200_000_000


def refunds(arena: Arena) -> list[e.Refunded]:
    return [fact for fact, _ in arena.stage.facts if isinstance(fact, e.Refunded)]


@pytest.mark.no_cover  # three times as long otherwise, and other tests reach all of it
@settings(deadline=None)
@given(st.integers(1, 400))
def test_whenever_it_is_cancelled_every_charge_goes_back_once_and_all_balances_are_whole(steps: int):
    arena = Arena(miners(8), unpaid=["m03"]).open()
    arena.stage.record(credit("m03", FEE))
    while arena.step() and steps and arena.tournament.status is not TournamentStatus.COMPLETED:
        steps -= 1
    if arena.tournament.status is TournamentStatus.COMPLETED:
        refused(arena.stage.state, cancelled(arena), "the tournament is completed")
        return
    arena.stage.record(cancelled(arena))
    assert Counter(r.hotkey for r in refunds(arena)) == dict.fromkeys(arena.tournament.charges, 1)
    assert {(r.rao, r.because) for r in refunds(arena)} <= {(FEE, "the tournament was cancelled by ada")}
    assert arena.stage.state.balances == {f"c-{h}": FEE if h == "m03" else 10**9 for h in miners(8)}
    assert arena.tournament.refunded == set(arena.tournament.charges)
    assert settle(arena.stage.state) == ()


def test_a_charge_that_comes_late_goes_back_too():
    arena = Arena(miners(7)).open()
    arena.step()
    arena.stage.record(cancelled(arena))
    late = e.Charged(tournament_id=arena.tournament_id, hotkey="late", coldkey="c-m00", rao=FEE)
    arena.stage.record(late)
    assert [r.hotkey for r in refunds(arena)] == [*miners(7), "late"]
    assert arena.stage.state.balances["c-m00"] == 10**9


def test_leases_of_a_cancelled_tournament_are_released_and_nothing_else_is_done():
    arena = active()
    for _ in range(3):
        arena.do(next(c for c in arena.plan().commands if isinstance(c, Train) and c.intent))
    held = set(arena.stage.state.leases)
    arena.stage.record(cancelled(arena))
    now = arena.plan()
    assert {type(c) for c in now.commands} == {Release}
    assert {c.spec.attempt_id for c in now.commands if isinstance(c, Release)} == held
    assert set(now.waits) == {f"lease.{attempt}" for attempt in held}
    assert now.demand == []
    arena.run()
    assert arena.stage.state.leases == {}
    assert (arena.plan().commands, arena.plan().waits) == ([], {})
    assert arena.tournament.status is TournamentStatus.CANCELLED


def test_what_comes_late_to_a_cancelled_tournament_is_refused():
    arena = active()
    command = first_train(arena)
    arena.do(command)
    arena.stage.record(cancelled(arena))
    state, t = arena.stage.state, arena.tournament_id
    refused(state, ended(command.spec), "the tournament is cancelled")
    refused(state, retried(command.spec), "the tournament is cancelled")
    refused(state, cancelled(arena), "the tournament is cancelled")
    refused(state, e.SecretRevealed(tournament_id=t, secret_seed="22" * 32), "the secret is not due")
    pending = Arena(miners(8)).open()
    pending.stage.record(cancelled(pending))
    state = pending.stage.state
    passed = e.RegistrationPassed(tournament_id=t, number=1, answers=(offer("m00"),))
    refused(state, passed, "registration is not open")
    refused(state, e.TournamentActivated(tournament_id=t, draw_seed=DRAW_SEED), "registration is not done")


def test_an_unknown_tournament_cannot_be_cancelled():
    refused(State(), e.TournamentCancelled(tournament_id="none", **SAID), "there is no tournament none")


def test_who_waits_for_a_ruling_when_it_is_cancelled_gets_none():
    arena = Arena(miners(8)).open()
    passed = e.RegistrationPassed(tournament_id=arena.tournament_id, number=1, answers=(offer("m00"),))
    unsettled = evolve(arena.stage.state, passed, START)
    state = evolve(unsettled, cancelled(arena), START)
    assert state.tournaments[arena.tournament_id].unanswered == ()
    assert settle(state) == ()


def test_the_next_one_meets_the_same_champion_with_the_same_wins():
    arena = Arena(miners(9)).open()
    arena.run()
    before = arena.stage.state.reigns
    arena.champion, arena.champion_wins = offer("m08"), 1
    arena.open().until_active()
    arena.stage.record(cancelled(arena))
    assert arena.stage.state.reigns == before
    later, agenda = arena.stage.at + timedelta(hours=72), Agenda((TournamentType.TEXT,), endless=True)
    assert plan(arena.stage.state, later, agenda).commands == [
        Announce(TournamentType.TEXT, 3, offer("m08"), 1, Rules())
    ]


def test_asking_and_revealing_stop_with_the_cancellation():
    arena = Arena(miners(8)).open()
    assert isinstance(arena.plan().commands[0], AskMiners)
    arena.step()
    assert isinstance(arena.plan().commands[0], RevealDrawSeed)
    arena.stage.record(cancelled(arena))
    assert (arena.plan().commands, arena.plan().wake_at) == ([], [])


# --- refunds without a cancellation


def charged_before_an_answer() -> Arena:
    """A miner that has paid and is not in yet."""
    arena = Arena().open()
    arena.stage.record(credit("m00"))
    arena.stage.record(e.Charged(tournament_id="text-1", hotkey="m00", coldkey="c-m00", rao=FEE))
    return arena


def passed(number: int, answer: e.Answer) -> e.RegistrationPassed:
    return e.RegistrationPassed(tournament_id="text-1", number=number, answers=(answer,))


def test_who_is_refused_after_paying_gets_its_fee_back_and_stays_out():
    arena = charged_before_an_answer()
    arena.stage.record(passed(1, Refusal(hotkey="m00", reason="no dockerfile")))
    assert arena.kinds[-2:] == ["EntrantRefused", "Refunded"]
    assert [(r.coldkey, r.rao, r.because) for r in refunds(arena)] == [("c-m00", FEE, "no dockerfile")]
    assert arena.stage.state.balances == {"c-m00": 10**9}
    arena.stage.record(passed(2, offer("m00")))
    assert arena.tournament.refusals["m00"] == "its fee was returned in this tournament, which takes it once"
    arena.stage.record(passed(3, Refusal(hotkey="m00", reason="still none")))
    arena.stage.record(cancelled(arena))
    assert len(refunds(arena)) == 1


def test_who_has_paid_already_is_in_without_paying_again():
    arena = charged_before_an_answer()
    arena.stage.record(passed(1, offer("m00")))
    assert list(arena.tournament.entrants) == ["m00"]
    assert arena.stage.state.balances == {"c-m00": 10**9 - FEE}


@pytest.mark.lies
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"hotkey": "m01"}, "m01 was not charged"),
        ({"coldkey": "c-m01"}, "c-m00 paid 200000000 RAO"),
        ({"rao": FEE + 1}, "c-m00 paid 200000000 RAO"),
    ],
)
def test_only_what_was_paid_goes_back_to_who_paid_it(changed: dict[str, Any], why: str):
    arena = charged_before_an_answer()
    paid = e.Refunded(tournament_id="text-1", hotkey="m00", coldkey="c-m00", rao=FEE, because="tested")
    refused(arena.stage.state, paid.model_copy(update=changed), why)
    arena.stage.record(paid)
    refused(arena.stage.state, paid, "it was refunded before")
    waits = evolve(arena.stage.state, passed(1, offer("m00")), START)
    accepted = e.EntrantAccepted(tournament_id="text-1", entrant=offer("m00"), number=1, because="tested")
    refused(waits, accepted, "m00 has not paid")
