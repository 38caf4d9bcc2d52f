"""Champion against challenger (RULES §8)."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from tests.builders import CHAMPION, evaluated, miners
from tests.core.arena import Arena, by_number
from tourney_ray.core import events as e
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import Evaluated, TaskStatus, TaskType, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import Tournament

NAN = float("nan")


def end(t: Tournament) -> tuple[str | None, str]:
    assert t.completed is not None
    return t.completed.winner, t.completed.title


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
