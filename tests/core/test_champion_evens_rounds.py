"""Whole tournaments by `god-2025-12`: several groups, and a champion that plays ordinary matches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.builders import CHAMPION, miners
from tests.core.arena import Arena, by_number, measured
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import Evaluated, RoundType, TournamentStatus
from tourney_ray.core.rules import Rules

GROUP, KNOCKOUT, BOSS = RoundType.GROUP, RoundType.KNOCKOUT, RoundType.BOSS
GOD = Rules.preset("god-2025-12")


def arena(count: int, skill: float | None = None, **changed: Any) -> Arena:
    """Entrants of growing skill, and a champion of that skill, or the worst of all."""

    def measures(command: Evaluate) -> Evaluated:
        if skill is None or command.hotkey != CHAMPION:
            return by_number(command)
        return measured(command, METRICS[command.task_type].improved(100.0, skill))

    return Arena(miners(count), rules=GOD.model_copy(update=changed), measures=measures).open()


def players(game: Arena, number: int) -> set[str]:
    return {h for match in game.tournament.rounds[number - 1].matches.values() for h in match.entrants}


def test_two_groups_of_a_round_advance_by_place_then_registration():
    game = arena(41, min_miners=41)
    t = game.run()
    first, second = t.rounds[:2]
    assert (first.round_type, [len(m.entrants) for m in first.matches.values()]) == (GROUP, [21, 20])
    assert CHAMPION not in players(game, 1)
    places = {h: place for m in first.matches.values() if m.decided for place, h in enumerate(m.decided.advancing)}
    assert len(places) == 16
    assert list(first.advancing) == sorted(places, key=lambda h: (places[h], t.registration_rank(h)))
    assert (second.round_type, players(game, 2)) == (GROUP, set(first.advancing))
    assert [r.round_type for r in t.rounds[2:]] == [KNOCKOUT, KNOCKOUT, KNOCKOUT, BOSS]


def test_a_strong_champion_joins_the_pairs_of_round_1_and_meets_its_challenger_at_the_end():
    game = arena(9, skill=50.0)
    t = game.run()
    assert [r.round_type for r in t.rounds] == [KNOCKOUT, KNOCKOUT, KNOCKOUT, BOSS]
    assert CHAMPION in players(game, 1)
    assert "joins them" in _because(game, 1)
    assert t.rounds[0].advancing[0] == CHAMPION
    assert len(t.rounds[0].advancing) == 5
    assert CHAMPION not in players(game, 2)
    assert "sits this round out" in _because(game, 2)
    assert t.completed is not None
    assert (t.completed.winner, t.completed.title) == (CHAMPION, "defended")
    assert next(s for s in t.completed.standings if s.hotkey == CHAMPION).points == 0.0


def test_the_champion_has_no_margin_in_an_ordinary_match():
    game = arena(9, skill=-1.0)  # worse than any by less than the margin of 12.5 %
    t = game.run()
    assert CHAMPION in players(game, 1)
    assert CHAMPION not in t.rounds[0].advancing
    assert CHAMPION in t.still_in()
    boss = t.rounds[-1]
    assert (boss.round_type, next(iter(boss.matches.values())).entrants[0]) == (BOSS, CHAMPION)
    assert t.completed is not None
    assert (t.completed.winner, t.completed.title) == (CHAMPION, "defended")


def test_of_equals_the_champion_is_ahead():
    copy = {(1, h): 1.0 for h in [*miners(9), CHAMPION]}
    game = arena(9)
    game.values = copy
    t = game.run()
    assert t.rounds[0].advancing[0] == CHAMPION


@pytest.mark.parametrize("skill", [50.0, 4.5, None])
@pytest.mark.parametrize("count", [8, 10, 13, 14, 15, 17])
def test_every_size_ends_in_a_boss_round(count: int, skill: float | None):
    t = arena(count, skill).run()
    assert t.status is TournamentStatus.COMPLETED
    assert t.rounds[-1].round_type is BOSS
    assert t.completed is not None
    assert t.completed.winner == (CHAMPION if skill is not None else f"m{count - 1:02d}")


@settings(max_examples=15, deadline=None)
@given(st.integers(8, 24), st.floats(-60, 60), st.booleans())
def test_weights_sum_to_one_and_the_champion_earns_no_points(count: int, skill: float, titled: bool):
    game = Arena(miners(count), rules=GOD.model_copy(update={"min_miners": count}))
    game.champion = game.champion if titled else None
    game.measures = arena(8, skill).measures
    t = game.open().run()
    assert t.completed is not None
    assert sum(s.weight for s in t.completed.standings) == pytest.approx(1.0, abs=1e-12)
    assert all(s.points == 0.0 for s in t.completed.standings if s.hotkey in (CHAMPION, t.completed.winner))


def _because(game: Arena, number: int) -> str:
    return next(f.because for f, _ in game.stage.facts if f.kind == "RoundDrawn" and f.number == number)
