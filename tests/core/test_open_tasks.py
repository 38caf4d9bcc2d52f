"""What a task asks for, brought up to date fact by fact, is what a fresh look at it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from tests.builders import play
from tests.builders_eventful import eventful
from tourney_ray.core.evolve import evolve
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import TournamentStatus
from tourney_ray.core.open_tasks import TaskWork, monitor_training_tasks
from tourney_ray.core.plan import Plan, Planner, plan
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import State, Task

SOON = timedelta(seconds=1)


def told(found: Plan) -> tuple[object, ...]:
    return {c.command_id for c in found.commands}, found.waits, sorted(found.wake_at), list(found.demand)


def test_a_planner_says_of_each_state_what_a_new_one_would_say() -> None:
    planner, state, agenda, cluster = Planner(), State(), Agenda(), Cluster()
    for fact, at in eventful().facts:
        state = evolve(state, fact, at)
        for now in (at, at + SOON, at + timedelta(hours=1), at - timedelta(hours=1)):
            found = plan(state, now, agenda, cluster)
            assert told(planner.plan(state, now, agenda, cluster)) == told(found)
            assert found.anything_waits is bool(found.waits)


def test_what_is_asked_for_keeps_the_tasks_order() -> None:
    known: dict[str, TaskWork] = {}
    state = State()
    for fact, at in play(10).facts:
        state = evolve(state, fact, at)
        for t in state.tournaments.values():
            for task in t.tasks.values() if t.status is TournamentStatus.ACTIVE else ():
                if task.decided is None:
                    work = monitor_training_tasks(t.tournament_id, task, at, at, known.get(task.task_id))
                    known[task.task_id] = work
                    fresh = monitor_training_tasks(t.tournament_id, task, at, at)
                    assert asked(work) == asked(fresh)
                    assert (work.commands, work.waits, work.wakes) == (fresh.commands, fresh.waits, fresh.wakes)
                    assert (work.holding, work.wake_at) == (fresh.holding, fresh.wake_at)
    assert known


def asked(work: TaskWork) -> list[str]:
    """Who asks for GPUs, in that order."""
    return list(work.line.by_key) if work.line else []


def begun() -> tuple[Task, datetime]:
    """The first task that is trained, and when that began."""
    state = State()
    for fact, at in play(10).facts:
        state = evolve(state, fact, at)
        for t in state.tournaments.values():
            for task in t.tasks.values():
                if task.trainings:
                    return task, at
    raise AssertionError("nothing was trained")


def test_what_did_not_change_is_not_looked_at_again() -> None:
    task, at = begun()
    work = monitor_training_tasks("t", task, at, at)
    assert monitor_training_tasks("t", task, at, at + SOON, work) is work
    assert monitor_training_tasks("t", replace(task), at, at + SOON, work) is work
    assert monitor_training_tasks("t", replace(task, run=2), at, at + SOON, work) is not work
    assert monitor_training_tasks("t", task, at, at - SOON, work) is not work
