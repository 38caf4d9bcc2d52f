"""Trainings and evaluations that should be running, and why the others wait (RULES §6)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import miners, offer
from tests.core.arena import CRASH, NODE_LOST, Arena, trained
from tourney_ray.core.commands import (
    Evaluate,
    Train,
)
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import TournamentStatus, TrainingStatus
from tourney_ray.core.nodes import Node
from tourney_ray.core.plan import plan

ONE_GPU = Cluster((Node("n1", {"H100": 1}),))
ONE_NODE = Cluster((Node("n1", {"H100": 8}),))


def test_planning_twice_is_planning_once():
    arena = Arena(miners(9), cluster=ONE_GPU).open()
    while arena.plan().commands:
        assert arena.plan() == arena.plan()
        arena.step()


def test_after_the_intent_the_same_command_stays_without_it():
    arena = Arena(miners(8)).open().until_active()
    before = arena.plan().commands[0]
    assert isinstance(before, Train)
    assert before.intent is not None
    assert before.command_id == f"train/{before.spec.attempt_id}"
    arena.do(before)
    (after,) = [c for c in arena.plan().commands if c.command_id == before.command_id]
    assert after == replace(before, intent=None)


def test_a_command_says_all_that_a_trainer_needs():
    arena = Arena(miners(8)).open().until_active()
    command = arena.plan().commands[0]
    assert isinstance(command, Train)
    assert command.intent is not None
    spec, task = command.spec, arena.tournament.tasks[command.spec.task_id]
    frozen = offer(spec.hotkey)
    assert (spec.repo, spec.commit, spec.tree_hash) == (frozen.repo, frozen.commit, frozen.tree_hash)
    assert (spec.data, spec.hours_to_complete, spec.gpu_requirement) == (task.data, task.hours, task.gpu_requirement)
    assert spec.expected_repo_name == f"tournament-text-1-{task.task_id}-{spec.hotkey}"
    terms = command.intent.terms
    assert (terms.gpu_type, terms.gpus) == (spec.gpu_requirement.gpu_type, spec.gpu_requirement.gpus)
    assert (terms.mem_limit, terms.nano_cpus) == (spec.mem_limit, spec.nano_cpus) == ("24g", 8_000_000_000)
    assert (terms.hours, terms.dataset_sha256) == (task.hours, task.data.dataset_sha256)
    assert (command.intent.epoch, command.intent.node) == (1, command.node)


def test_who_waits_for_a_gpu_has_a_reason_and_comes_when_one_is_free():
    arena = Arena(miners(16), cluster=ONE_GPU).open().until_active()
    assert len(arena.plan().commands) == 1
    *others, first = sorted(arena.plan().waits.values())
    assert first.startswith("needs 1×H100 on one node: n1 is kept for it, free at ")
    assert set(others) == {"needs 1×H100 on one node: all are leased"}
    arena.step()
    assert len(arena.plan().commands) == 1
    arena.step()
    assert [type(c) for c in arena.plan().commands] == [Evaluate, Train]


def test_an_ended_attempt_is_not_wanted_any_more():
    arena = Arena(miners(8)).open().until_active()
    command = arena.plan().commands[0]
    arena.do(command)
    arena.do(arena.plan().commands[0])
    assert not arena.plan().wants(command.command_id)


def test_a_crash_is_repeated_at_once_with_a_new_id_and_the_second_is_the_last():
    arena = Arena(miners(16), cluster=ONE_GPU, trains=lambda spec: CRASH).open().until_active()
    first = arena.plan().commands[0]
    assert isinstance(first, Train)
    for epoch in (1, 2):
        (command,) = [c for c in arena.plan().commands if isinstance(c, Train) and c.spec.hotkey == first.spec.hotkey]
        assert command.spec.epoch == epoch
        arena.do(command)
        arena.do(replace(command, intent=None))
    assert arena.plan().waits[f"{first.spec.task_id}.{first.spec.hotkey}"] == (
        "failed; the task's other entrants are not done"
    )


@pytest.mark.parametrize("faults", [1, 2, 3, 12])
def test_a_fault_of_the_platform_is_retried_after_a_pause_that_doubles(faults: int):
    arena = Arena(miners(8), cluster=ONE_GPU, trains=lambda spec: NODE_LOST).open().until_active()
    first = arena.plan().commands[0]
    assert isinstance(first, Train)
    key, pause = f"{first.spec.task_id}.{first.spec.hotkey}", timedelta()
    for _ in range(faults):
        (command,) = [c for c in arena.plan().commands if isinstance(c, Train) and c.spec.hotkey == first.spec.hotkey]
        arena.do(command)
        arena.do(replace(command, intent=None))
        due = arena.tournament.tasks[first.spec.task_id].trainings[first.spec.hotkey].not_before
        assert due is not None
        now = arena.plan()
        assert due in now.wake_at
        assert now.waits[key] == f"n1 went away; tried again at {due:%H:%M:%S} UTC"
        pause, arena.stage.at = due - arena.stage.at, due
        assert key not in {k for k, why in arena.plan().waits.items() if "tried again" in why}
    assert pause == timedelta(seconds=min(5 * 2 ** (faults - 1), 1800))
    assert arena.tournament.tasks[first.spec.task_id].trainings[first.spec.hotkey].status is TrainingStatus.PENDING


# --- evaluations


def test_a_finished_training_is_evaluated():
    arena = Arena(miners(16), cluster=ONE_GPU).open().until_active()
    arena.step()
    arena.step()
    command = arena.plan().commands[0]
    assert isinstance(command, Evaluate)
    task = arena.tournament.tasks[command.task_id]
    assert (command.number, command.tries, command.data, command.task_type) == (1, 0, task.data, task.task_type)
    assert command.checkpoint == f"out/{command.attempt_id}"
    assert command.command_id == f"evaluate/{command.attempt_id}/1/0"
    arena.do(command)
    assert arena.plan().waits[f"{command.task_id}.{command.hotkey}"] == (
        "evaluated; the task's other entrants are not done"
    )


def test_a_failing_evaluator_is_retried_as_a_new_command_after_a_pause():
    arena = Arena(miners(16), cluster=ONE_GPU, measures=lambda command: None).open().until_active()
    arena.step()
    arena.step()
    command = arena.plan().commands[0]
    assert isinstance(command, Evaluate)
    arena.do(command)
    now = arena.plan()
    assert not now.wants(command.command_id)
    assert now.wake_at == [arena.stage.at + timedelta(seconds=5)]
    again = plan(arena.stage.state, now.wake_at[0])
    assert again.wants(f"evaluate/{command.attempt_id}/1/1")


def test_every_training_that_is_not_done_is_commanded_or_has_a_reason():
    arena = Arena(miners(12), cluster=replace(ONE_NODE, max_trainers=2))
    arena.trains = lambda spec: NODE_LOST if spec.epoch == 1 else trained(spec)
    arena.open()
    while arena.step():
        now = arena.plan()
        commanded = {(c.spec.task_id, c.spec.hotkey) for c in now.commands if isinstance(c, Train)}
        commanded |= {(c.task_id, c.hotkey) for c in now.commands if isinstance(c, Evaluate)}
        for task in arena.tournament.tasks.values():
            for hotkey in task.trainings if task.decided is None else ():
                assert ((task.task_id, hotkey) in commanded) != (f"{task.task_id}.{hotkey}" in now.waits)
    assert arena.tournament.status is TournamentStatus.COMPLETED
