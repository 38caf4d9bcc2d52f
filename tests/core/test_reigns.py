"""Who holds a title, for how long, and how clearly it was won (RULES §8, §9)."""

from __future__ import annotations

from functools import cache

from tests.builders import CHAMPION, START, miners, offer
from tests.core.arena import Arena
from tourney_ray.core import events as e
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import TournamentType
from tourney_ray.core.state import State


@cache
def before_the_end() -> tuple[State, e.TournamentCompleted]:
    """A state in which a tournament may end, and how it ended."""
    arena, state = Arena(miners(9)).open(), State()
    arena.run()
    for fact, at in arena.stage.facts:
        if isinstance(fact, e.TournamentCompleted):
            return state, fact
        state = evolve(state, fact, at)
    raise AssertionError("it never ended")


def reign_after(state: State, title: str, winner: str | None, difference: float = 0.25) -> State:
    """The state after the tournament ended so, with that state's reigns before it."""
    before, fact = before_the_end()
    fact = fact.model_copy(update={"title": title, "winner": winner, "performance_difference": difference})
    before = State(seq=before.seq, tournaments=before.tournaments, reigns=state.reigns)
    return evolve(before, fact, START)


def test_who_wins_the_title_begins_a_reign_with_its_difference():
    reign = reign_after(State(), "won", "m08").reigns[TournamentType.TEXT]
    assert (reign.champion, reign.wins, reign.performance_difference) == (offer("m08"), 1, 0.25)
    assert reign.tournament_id == "text-1"


def test_a_base_contestants_first_defence_is_the_first_win_of_its_reign():
    reign = reign_after(State(), "defended", CHAMPION).reigns[TournamentType.TEXT]
    assert (reign.champion, reign.wins, reign.performance_difference) == (offer(CHAMPION), 1, 0.25)


def test_a_defence_keeps_the_difference_of_the_first_win():
    first = reign_after(State(), "won", CHAMPION, 0.25)
    reign = reign_after(first, "defended", CHAMPION, -0.5).reigns[TournamentType.TEXT]
    assert (reign.champion.hotkey, reign.performance_difference) == (CHAMPION, 0.25)


def test_another_winner_ends_a_reign():
    first = reign_after(State(), "won", CHAMPION, 0.25)
    reign = reign_after(first, "won", "m08", 0.125).reigns[TournamentType.TEXT]
    assert (reign.champion.hotkey, reign.wins, reign.performance_difference) == ("m08", 1, 0.125)


def test_an_uncontested_win_has_no_difference_and_a_vacant_title_no_reign():
    assert reign_after(State(), "uncontested", "m08", 0.0).reigns[TournamentType.TEXT].performance_difference == 0.0
    assert reign_after(State(), "vacant", None).reigns == {}
