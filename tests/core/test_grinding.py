"""What an operator might try with a tournament of its own: refused when it is recorded, not only found later."""

from __future__ import annotations

import pytest

from tests.builders import CHAMPION, DRAW_SEED, miners, offer
from tests.core.arena import Arena
from tourney_ray.core import events as e
from tourney_ray.core.draw import commitment
from tourney_ray.core.models import RoundStatus, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.errors import IllegalTransition


def registered(beacon: str = "") -> Arena:
    arena = Arena(miners(8), beacon=beacon).open()
    while len(arena.tournament.entrants) < 8:
        assert arena.step()
    return arena


def created(number: int, champion: str, wins: int) -> e.TournamentCreated:
    return e.TournamentCreated(
        tournament_id=f"text-{number}",
        tournament_type=TournamentType.TEXT,
        rules=Rules(),
        draw_commitment=commitment(DRAW_SEED),
        secret_commitment=commitment("33" * 32),
        champion=offer(champion),
        champion_wins=wins,
        because="tried",
    )


def test_a_beacon_that_nobody_announced_cannot_be_mixed_in():
    activated = e.TournamentActivated(tournament_id="text-1", draw_seed=DRAW_SEED, beacon="7")
    with pytest.raises(IllegalTransition, match="the beacon announced is none"):
        registered().stage.record(activated)
    registered(beacon="block 7").stage.record(activated)


def test_an_announced_beacon_cannot_be_left_out():
    with pytest.raises(IllegalTransition, match="the beacon announced is block 7"):
        registered(beacon="block 7").stage.record(e.TournamentActivated(tournament_id="text-1", draw_seed=DRAW_SEED))


def test_registration_does_not_go_on_once_enough_are_in():
    late = e.RegistrationPassed(tournament_id="text-1", number=2, answers=(offer("friend"),))
    with pytest.raises(IllegalTransition, match="8 entrants are in, which is enough"):
        registered().stage.record(late)


def test_nobody_begins_with_wins():
    with pytest.raises(IllegalTransition, match="nobody has won a tournament of this type yet"):
        Arena().stage.record(created(1, CHAMPION, 30))


@pytest.mark.parametrize(
    ("champion", "wins", "why"),
    [("friend", 1, "m07 holds the title"), ("m07", 40, "m07 has won 1 times")],
)
def test_only_the_holder_of_the_title_defends_it(champion: str, wins: int, why: str):
    arena = Arena(miners(8)).open()
    arena.run()
    with pytest.raises(IllegalTransition, match=why):
        arena.stage.record(created(2, champion, wins))


def test_who_still_plays_is_an_active_participant():
    arena = registered()
    assert arena.stage.state.active_participants() == set()
    arena.until_active(1)
    assert arena.stage.state.active_participants() == {*miners(8), CHAMPION}
    arena.until_active(2)
    assert len(arena.stage.state.active_participants() - {CHAMPION}) == 4
    arena.run()
    assert arena.stage.state.active_participants() == set()


def test_between_drawing_and_after_completing_a_round_those_who_advanced_are_in():
    arena = Arena(miners(8)).open()
    seen: set[tuple[int, int]] = set()
    while arena.step():
        t = arena.tournament
        seen.add((len(t.rounds), len(t.still_in())))
        if t.round and t.round.status is RoundStatus.COMPLETED:
            assert t.still_in() == {*t.round.advancing, CHAMPION}
    assert seen >= {(0, 9), (1, 9), (2, 5), (3, 3), (4, 2)}
