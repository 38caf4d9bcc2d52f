"""The bracket and the standings as text."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.builders import CHAMPION, Played, miners, play
from tests.core.arena import Arena
from tourney_ray.core.rules import Rules
from tourney_ray.report.bracket import bracket_lines, standing_lines
from tourney_ray.report.document import emission


@cache
def eleven() -> Played:
    return play(11)


def text(played: Played) -> list[str]:
    return list(bracket_lines(played.tournament))


def test_rounds_stand_in_their_order() -> None:
    titles = [line for line in text(eleven()) if "(round" in line]
    assert titles == [
        "Group stage (round 1)",
        "Knock-out (round 2)",
        "Knock-out (round 3)",
        "Knock-out (round 4)",
        "Boss round (round 5)",
    ]


def test_every_verdict_has_its_mark_and_its_reason() -> None:
    lines, t = text(eleven()), eleven().tournament
    for drawn in t.rounds:
        for match in drawn.matches.values():
            assert match.decided
            for verdict in match.decided.verdicts:
                mark = "●" if verdict.advances else "○"
                assert f"    {mark} {verdict.hotkey:<16}  {verdict.because}" in lines


def test_a_group_lists_all_and_marks_those_who_advance() -> None:
    group = text(eleven())[1:13]
    assert group[0] == "  group 1: InstructTextTask (loss, lower is better)"
    assert [line.strip()[0] for line in group[1:]] == ["●"] * 8 + ["○"] * 3


def test_the_boss_round_tells_who_won_each_task_and_why() -> None:
    lines = text(eleven())
    boss = lines[lines.index("Boss round (round 5)") :]
    won = [line for line in boss if line.startswith("    task ")]
    assert [re.split(r"[ :]+", line.strip())[1] for line in won] == list("123456")
    assert all(re.fullmatch(r"    task \d to (m10|champ): .+", line) for line in won)
    lower, higher = "(loss, lower is better)", "(reward, higher is better)"
    assert boss[1] == f"  pair 1: InstructTextTask {lower}, DpoTask {lower}, GrpoTask {higher}"


def test_a_bye_is_shown() -> None:
    lines = text(play(5, rules=Rules(min_miners=5)))
    byes = [line for line in lines if line.endswith("has a bye")]
    assert byes
    assert all(re.fullmatch(r"  ● m0\d  has a bye", line) for line in byes)


def test_what_is_not_decided_is_shown_as_such_at_every_moment() -> None:
    arena = Arena(entrants=miners(8)).open()
    assert list(bracket_lines(arena.tournament)) == []
    arena.until_active()
    lines = list(bracket_lines(arena.tournament))
    assert sum("◌" in line and line.endswith("not decided") for line in lines) == 8
    assert list(standing_lines(arena.tournament, {})) == []
    while arena.step():
        for line in bracket_lines(arena.tournament):
            assert line.isprintable()


def test_a_match_without_its_task_says_so() -> None:
    arena = Arena(entrants=miners(8)).open()
    while not arena.tournament.rounds:
        arena.step()
    assert "  pair 1: no task yet" in list(bracket_lines(arena.tournament))


def test_standings_sum_up_and_end_with_what_is_burnt() -> None:
    t = eleven().tournament
    shares = emission(eleven().state, t)
    title, *lines, burnt = standing_lines(t, shares)
    assert title == "Standings"
    found = [re.fullmatch(r" +(\d+)\. (\S+) +\S+ points  weight (\S+)  emission (\S+)", line) for line in lines]
    assert t.completed
    assert [match and match[2] for match in found] == [s.hotkey for s in t.completed.standings]
    assert sum(float(match[3]) for match in found if match) == pytest.approx(1, abs=1e-3)
    assert burnt.split() == ["burnt", "emission", f"{shares['burn']:.4f}"]
    assert {match[2] for match in found if match} >= {"m10", CHAMPION}
