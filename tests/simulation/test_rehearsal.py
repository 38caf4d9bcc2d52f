"""Rehearsals: what a tournament will take, played by the driver's own loop in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tourney_ray.core.models import GpuRequirement, RoundType, TaskType, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.report.usage import Usage
from tourney_ray.simulation.rehearsal import NodeKind, Prospect, rehearsals, rehearse

TEXT, IMAGE = TournamentType.TEXT, TournamentType.IMAGE
NODES = (NodeKind("wide", {"H100": 8}, 2), NodeKind("old", {"A100": 2}, 1))
BOTH = Prospect(Rules(), {TEXT: 12, IMAGE: 8}, frozenset({TEXT}), NODES)


def most_at_once(found: Usage, node: str) -> int:
    """GPUs of a node that are held at the same time."""
    mine = [held for held in found.held if held.node == node]
    return max(sum(o.gpus for o in mine if o.began_hours <= held.began_hours < o.ended_hours) for held in mine)


def test_everybody_who_enters_trains_in_the_group_and_the_champion_defends() -> None:
    found = rehearse(BOTH, 1)
    first = {key: sum(needs.values()) for key, needs in found.trainings.items() if key.number == 1}
    assert {(key.tournament_type, key.round_type): n for key, n in first.items()} == {
        (TEXT, RoundType.GROUP): 12,
        (IMAGE, RoundType.KNOCKOUT): 8,
    }
    bosses = {key.tournament_type for key in found.tasks if key.round_type is RoundType.BOSS}
    assert bosses == {TEXT}
    assert set(found.wall_hours) == {TEXT, IMAGE}


def test_no_node_is_fuller_than_it_can_be() -> None:
    found = rehearse(BOTH, 2)
    capacity = {node: sum(kind.gpus.values()) for kind in NODES for node in kind.node_ids()}
    used = {held.node for held in found.held}
    assert used <= set(capacity)
    assert all(most_at_once(found, node) <= capacity[node] for node in used)


def test_a_seed_repeats_and_another_differs() -> None:
    assert rehearse(BOTH, 3) == rehearse(BOTH, 3)
    assert rehearse(BOTH, 3) != rehearse(BOTH, 4)


def test_processes_give_what_one_gives() -> None:
    alone = rehearsals(BOTH, 3, jobs=1)
    assert rehearsals(BOTH, 3, jobs=2) == alone


def test_fewer_machines_take_longer_for_the_same_trainings() -> None:
    few = replace(BOTH, nodes=(NodeKind("wide", {"H100": 8}, 1), NodeKind("old", {"A100": 1}, 1)))
    many, less = rehearse(BOTH, 5), rehearse(few, 5)
    assert less.trainings == many.trainings
    assert less.wall_hours[IMAGE] > many.wall_hours[IMAGE]


def test_no_more_trainers_run_than_the_settings_allow() -> None:
    found = rehearse(replace(BOTH, max_trainers=2), 6)
    moments = [held.began_hours for held in found.held]
    assert max(sum(h.began_hours <= at < h.ended_hours for h in found.held) for at in moments) <= 2


def test_models_are_those_that_there_are() -> None:
    plain = Rules(knockout_task_shares={TaskType.INSTRUCT: 1.0}, boss_tasks=(TaskType.INSTRUCT,))
    known = replace(BOTH, rules=plain, sizes=(10**9, 50 * 10**9))
    needs = {need for counts in rehearse(known, 7).trainings.values() for need in counts}
    assert needs == {GpuRequirement.H100_1X, GpuRequirement.H100_8X, GpuRequirement.A100}


@pytest.mark.parametrize("entrants", [8, 9])
def test_the_least_that_start_a_tournament_are_enough(entrants: int) -> None:
    text = replace(BOTH, entrants={TEXT: entrants})
    assert sum(rehearse(text, 8).tasks.values()) > 1
