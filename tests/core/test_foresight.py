"""Tasks that are foreseen are those that are prepared in the end, wherever every match sends on as many as it may."""

from __future__ import annotations

import pytest

from tests.builders import CHAMPION, START, Played, offer, play
from tourney_ray.core import events as e
from tourney_ray.core.evolve import evolve
from tourney_ray.core.foresight import foreseen_tasks
from tourney_ray.core.models import TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import State


def foreseen_and_prepared(played: Played) -> list[tuple[set[str], set[str]]]:
    """For each round after the first: the ids foreseen while the one before it was played, and those prepared."""
    state, found, prepared = State(), list[tuple[set[str], set[str]]](), set[str]()
    for fact, at in played.facts:
        if isinstance(fact, e.RoundDrawn) and fact.number > 1:
            prepared = set()
            found.append(({c.task_id for c in foreseen_tasks(state.tournaments[fact.tournament_id])}, prepared))
        if isinstance(fact, e.TaskPrepared):
            prepared.add(fact.task_id)
        state = evolve(state, fact, at)
    return found


@pytest.mark.parametrize("kind", list(TournamentType))
@pytest.mark.parametrize("entrants", [8, 12])
@pytest.mark.parametrize("champion", [True, False])
def test_what_is_foreseen_is_prepared(entrants: int, champion: bool, kind: TournamentType) -> None:
    pairs = foreseen_and_prepared(play(entrants, champion=champion, tournament_type=kind))
    assert len(pairs) >= 2
    for foreseen, prepared in pairs:
        assert prepared
        assert foreseen == prepared


def test_a_bye_counts_as_a_survivor() -> None:
    pairs = foreseen_and_prepared(play(11, rules=Rules(knockout_at_most=11)))
    assert [len(foreseen) for foreseen, _ in pairs] == [len(prepared) for _, prepared in pairs]


def test_several_groups_send_on_the_best_of_each() -> None:
    pairs = foreseen_and_prepared(play(40, rules=Rules.preset("god-2025-12")))
    assert len(pairs[0][0]) == len(pairs[0][1])


def test_nothing_follows_the_boss_round_nor_comes_before_the_first() -> None:
    played = play(8)
    assert foreseen_tasks(played.tournament) == []
    created = next(fact for fact, _ in played.facts if isinstance(fact, e.TournamentCreated))
    fresh = evolve(State(), created, START)
    assert created.champion == offer(CHAMPION)
    assert foreseen_tasks(fresh.tournaments[created.tournament_id]) == []
