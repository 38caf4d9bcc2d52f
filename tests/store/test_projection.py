"""What the tables say after each fact, while a tournament goes on and people interfere."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from hypothesis import given, settings, strategies as st

from tests.builders_eventful import eventful
from tests.core.troubled import Troubled
from tourney_ray.core import events as e
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import TaskStatus
from tourney_ray.core.state import State
from tourney_ray.store.projection import project
from tourney_ray.store.tables import KEYS

Tables = dict[str, dict[tuple[Any, ...], dict[str, Any]]]
EVENTFUL = eventful()


def moments(facts: Sequence[tuple[e.Fact, datetime]]) -> Iterator[tuple[e.Fact, State, Tables]]:
    """Each fact with the state and the tables after it."""
    state, tables = State(), {table: {} for table in KEYS}
    for fact, at in facts:
        state = evolve(state, fact, at)
        for row in project(fact, state, at):
            key = tuple(row.values[column] for column in KEYS[row.table])
            tables[row.table].setdefault(key, {}).update(row.values)
        yield fact, state, tables


def statuses_follow(facts: Sequence[tuple[e.Fact, datetime]]) -> set[tuple[str, str, str]]:
    """Changes of a task's status, with the kind of the fact that made each; it is always that of its trainings."""
    seen, changes = dict[str, str](), set[tuple[str, str, str]]()
    for fact, state, tables in moments(facts):
        for t in state.tournaments.values():
            for task in t.tasks.values():
                status = tables["tasks"][task.task_id,].get("status")
                over = all(one.terminal for one in task.trainings.values())
                going = TaskStatus.EVALUATING if over else TaskStatus.TRAINING
                due = task.decided.status if task.decided else going if task.trainings else None
                assert status == due, (fact.kind, task.task_id)
                if status and seen.get(task.task_id, status) != status:
                    changes.add((seen[task.task_id], status, fact.kind))
                seen |= {task.task_id: status} if status else {}
    return changes


def test_a_tasks_status_is_that_of_its_trainings_whatever_happens() -> None:
    changes = statuses_follow(EVENTFUL.facts)
    assert {("training", "evaluating", "AttemptEnded"), ("evaluating", "success", "TaskDecided")} <= changes
    assert ("evaluating", "training", "TaskRepeated") in changes
    assert ("evaluating", "failure", "TaskDecided") in changes


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**64).map(random.Random))
def test_and_so_it_is_when_people_and_refused_checkpoints_take_trainings_back(dice: random.Random) -> None:
    statuses_follow(Troubled(dice, 0.2, cancels=True).play().stage.facts)


def test_a_refused_checkpoint_and_a_reopened_training_take_a_task_back_to_training() -> None:
    changes = set[tuple[str, str, str]]()
    for seed in range(12):
        changes |= statuses_follow(Troubled(random.Random(seed), 0.2, cancels=False).play().stage.facts)
    back = {kind for before, after, kind in changes if (before, after) == ("evaluating", "training")}
    assert back == {"CheckpointEvaluated", "TrainingReopened", "TaskRepeated"}


def test_an_attempt_that_a_person_has_begun_anew_has_its_end_and_its_reason() -> None:
    act = next(fact for fact, _ in EVENTFUL.facts if isinstance(fact, e.TrainingRetried))
    tables = next(tables for fact, _, tables in moments(EVENTFUL.facts) if fact is act)
    (attempt,) = [a for a in tables["attempts"].values() if a.get("kind") == "retried"]
    assert (attempt["status"], attempt["blame"], attempt["hotkey"]) == ("failure", "platform", act.hotkey)
    assert attempt["reason"] == "ada began it anew: seen on the dashboard"
    assert attempt["ended_at"]
    assert "lease_ended_at" not in attempt, "its GPUs are held until nothing of it runs any more"


def test_every_act_has_its_row() -> None:
    *_, (_, _, tables) = moments(EVENTFUL.facts)
    acts = [fact for fact, _ in EVENTFUL.facts if isinstance(fact, e.Act)]
    assert sorted((row["kind"], row["by"]) for row in tables["acts"].values()) == sorted((a.kind, a.by) for a in acts)
    assert {row["subject"] for row in tables["acts"].values() if row["kind"] == "NodeFenced"} == {"n3"}


def test_nodes_are_there_lost_or_fenced() -> None:
    seen = [
        (fact.kind, tables["nodes"][fact.node,]["status"])
        for fact, _, tables in moments(EVENTFUL.facts)
        if isinstance(fact, e.NodeJoined | e.NodeLost | e.NodeFenced) and fact.node == "n3"
    ]
    assert seen == [("NodeJoined", "there"), ("NodeLost", "lost"), ("NodeFenced", "fenced"), ("NodeJoined", "there")]


def test_a_fee_that_went_back_says_when_and_why() -> None:
    *_, (_, state, tables) = moments(EVENTFUL.facts)
    back = {key for key, row in tables["charges"].items() if row.get("refunded_at")}
    assert back == {(EVENTFUL.tournament_id, hotkey) for hotkey in EVENTFUL.tournament.charges}
    reasons = {row.get("refund") for row in tables["charges"].values()}
    assert reasons == {None, "the tournament was cancelled by ada"}
    assert {coldkey: row["rao"] for (coldkey,), row in tables["balances"].items()} == state.balances
