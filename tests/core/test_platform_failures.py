"""What the platform cannot do (RULES §6): a task begins anew once when it ended most trainings, else it is named."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
from hypothesis import given, strategies as st

from tests.builders import miners
from tests.core.acts import active, first_train, refused, train_of, training
from tests.core.arena import CRASH, NODE_LOST, Arena, by_number, trained
from tourney_ray.core import events as e
from tourney_ray.core.models import Blame, Failed, Trained, TrainingSpec, TrainingStatus
from tourney_ray.core.rules import Rules
from tourney_ray.core.settle import settle
from tourney_ray.core.state import Task

GROUP = miners(9)
"""All in one task."""

GIVEN_UP = "not ranked: training failed: the platform failed 1 times, not the miner; the last time: n1 went away"
Trains = Callable[[TrainingSpec], Trained | Failed]


def fails(losers: Collection[str], first_only: bool = False, how: Failed = NODE_LOST) -> Trains:
    """Trainings of those fail, in every run or in the first one only."""
    return lambda spec: how if spec.hotkey in losers and (spec.epoch == 1 or not first_only) else trained(spec)


def group(trains: Trains, rules: Rules | None = None) -> Arena:
    """A round of one task in which the platform fails but once before it is given up."""
    arena = Arena(GROUP, trains=trains, rules=rules or Rules(max_platform_failures=1)).open()
    return arena.until_active()


def until_decided(arena: Arena) -> Task:
    """The group's task once it is decided."""
    task_id = arena.tasks(1)[0].task_id
    while arena.tournament.tasks[task_id].decided is None:
        assert arena.step()
    return arena.tournament.tasks[task_id]


def repetitions(arena: Arena) -> list[e.TaskRepeated]:
    return [fact for fact, _ in arena.stage.facts if isinstance(fact, e.TaskRepeated)]


def reasons(task: Task) -> dict[str, str]:
    """Why each entrant is where it is, by hotkey."""
    assert task.decided
    return {ranked.hotkey: ranked.because for ranked in task.decided.ranking}


def test_after_most_of_its_trainings_a_task_begins_anew_for_everybody():
    arena = group(fails(GROUP[:5], first_only=True))
    task = until_decided(arena)
    (again,) = repetitions(arena)
    assert (again.number, again.because) == (2, "the platform ended 5 of 9 trainings: all of them begin anew")
    assert task.run == 2
    assert {len(one.attempts) for one in task.trainings.values()} == {2}, "who had trained trains again, as the others"
    assert task.decided
    assert all(ranked.valid for ranked in task.decided.ranking)


def test_it_is_repeated_once_and_then_the_verdict_names_the_platform():
    arena = group(fails(GROUP[:5]))
    task = until_decided(arena)
    assert len(repetitions(arena)) == 1
    assert {hotkey: why for hotkey, why in reasons(task).items() if "platform" in why} == dict.fromkeys(
        GROUP[:5], GIVEN_UP
    )
    assert {task.trainings[hotkey].failed_by for hotkey in GROUP} == {Blame.PLATFORM, None}


@given(st.integers(0, 9))
def test_more_than_half_of_them_it_takes(losers: int):
    arena = group(fails(GROUP[:losers]))
    until_decided(arena)
    assert len(repetitions(arena)) == (losers > 4)


def test_the_evaluator_is_part_of_the_platform():
    arena = group(trained)
    arena.measures = lambda command: by_number(command) if command.attempt_id.endswith(".2") else None
    task = until_decided(arena)
    (again,) = repetitions(arena)
    assert again.because == "the platform ended 9 of 9 trainings: all of them begin anew"
    assert {one.failed_by for one in task.trainings.values()} == {None}


def test_failures_of_the_miners_repeat_nothing():
    arena = group(fails(GROUP, how=CRASH))
    assert {one.failed_by for one in until_decided(arena).trainings.values()} == {Blame.MINER}
    assert repetitions(arena) == []


@pytest.mark.parametrize("times", [0, 1, 3])
def test_how_often_is_a_rule(times: int):
    arena = group(fails(GROUP), Rules(max_platform_failures=1, max_repetitions=times))
    task = until_decided(arena)
    assert [again.number for again in repetitions(arena)] == list(range(2, 2 + times))
    assert task.run == 1 + times


def test_the_share_is_a_rule():
    arena = group(fails(GROUP[:8]), Rules(max_platform_failures=1, repeat_above_share=0.9))
    until_decided(arena)
    assert repetitions(arena) == []


def test_what_was_before_a_repetition_counts_no_more():
    unlucky = "m00"

    def trains(spec: TrainingSpec) -> Trained | Failed:
        if spec.hotkey != unlucky:
            return NODE_LOST if spec.epoch == 1 else trained(spec)
        return CRASH if spec.epoch in (1, 3) else trained(spec)

    arena = group(trains)
    task = until_decided(arena)
    one = task.trainings[unlucky]
    assert [isinstance(a.outcome, Failed) for a in one.attempts] == [True, False, True, False]
    assert (one.status, one.miner_failures) == (TrainingStatus.SUCCESS, 1)


def test_an_evaluator_that_keeps_failing_is_given_up_and_named():
    rules = Rules(max_platform_failures=3, max_repetitions=0)
    arena = active(rules=rules, measures=lambda command: None)
    spec = first_train(arena).spec
    for _ in range(2):
        arena.do(train_of(arena, spec))
    while training(arena, spec).status is TrainingStatus.SUCCESS:
        assert arena.step()
    one = training(arena, spec)
    assert (one.status, one.failed_by, one.evaluation_failures) == (TrainingStatus.FAILURE, Blame.EVALUATOR, 3)
    while arena.tournament.tasks[spec.task_id].decided is None:
        assert arena.step()
    why = reasons(arena.tournament.tasks[spec.task_id])[spec.hotkey]
    assert why.endswith("the platform failed 3 times, not the miner; the last time: the evaluator was killed")


def test_trainings_that_are_given_up_hold_up_nobody():
    arena = Arena(miners(8), trains=lambda spec: NODE_LOST, rules=Rules(max_platform_failures=2)).open()
    completed = arena.run().completed
    assert completed
    assert (completed.title, completed.because) == ("defended", "nobody survived: the champion keeps the title")


def test_a_repetition_that_is_not_due_is_refused():
    arena = group(fails(GROUP[:5]))
    task_id = arena.tasks(1)[0].task_id
    second = e.TaskRepeated(tournament_id=arena.tournament_id, task_id=task_id, number=2, because="tested")
    refused(arena.stage.state, second, "a training is not terminal")
    refused(arena.stage.state, second.model_copy(update={"number": 3}), "the task is not up for that run")
    refused(arena.stage.state, second.model_copy(update={"task_id": "none"}), "there is no task none")
    until_decided(arena)
    refused(arena.stage.state, second.model_copy(update={"number": 3}), "the task is not up for that run")
    assert settle(arena.stage.state) == ()
