"""Planted bugs about the driver's loop: what it hears, when it decides, what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from tests.simulation.planting import ALL_FAULTS, CALM, COMPARISON, STUCK, TRUTH, Mutant, deaf, everywhere
from tourney_ray.core import events as e, placement, plan as planning, rulings, trainings
from tourney_ray.core.commands import Command, Train
from tourney_ray.core.models import Blame, Failed, TrainingSpec, TrainingStatus
from tourney_ray.core.open_tasks import TaskWork
from tourney_ray.core.queueing import Placed
from tourney_ray.core.state import Attempt, State, Task, Training
from tourney_ray.driver.loop import Loop, Outcome, _Batch
from tourney_ray.simulation.effects import VirtualDispatcher
from tourney_ray.simulation.run import Setting

FEW_GPUS = Setting(nodes="1x8H100,1x1A100")
EVALUATOR = replace(CALM, faults=frozenset({"evaluator"}))
DEATHS = replace(CALM, faults=frozenset({"crash"}), entrants=14)


def stale_outcome(patch: pytest.MonkeyPatch) -> None:
    honest = Loop._take

    def take(self: Loop, outcome: Outcome, batch: _Batch) -> Sequence[e.Fact]:
        facts = honest(self, outcome, batch)
        return facts or tuple(f for f in outcome.facts if isinstance(f, e.AttemptEnded) and _trains(self, f))

    def latest(training: Training, fact: e.AttemptRunning | e.AttemptEnded) -> Attempt:
        return training.attempts[-1]

    patch.setattr(Loop, "_take", take)
    patch.setattr(trainings, "_live_attempt", latest)


def _trains(loop: Loop, fact: e.AttemptEnded) -> bool:
    task = loop.journal.state.tournaments[fact.tournament_id].tasks[fact.task_id]
    return task.decided is None and task.trainings[fact.hotkey].status is TrainingStatus.TRAINING


# --- verdicts before their time, evaluations


def verdict_too_early(patch: pytest.MonkeyPatch) -> None:
    def any_ripe(task: Task) -> bool:
        return any(training.evaluated is not None for training in task.trainings.values())

    patch.setattr(Task, "done", property(any_ripe, lambda task, done: None))
    deaf(patch, "a training is not terminal")


def evaluations_without_end(patch: pytest.MonkeyPatch) -> None:
    honest = rulings._decide_task

    def decide(t: Any, *others: Any) -> e.Fact:
        return honest(replace(t, rules=t.rules.model_copy(update={"max_evaluations": 10**6})), *others)

    patch.setattr(rulings, "_decide_task", decide)


# --- the loop


def lost_outcome(patch: pytest.MonkeyPatch) -> None:
    honest, heard = Loop._take, dict[int, int]()

    def take(self: Loop, outcome: Outcome, batch: _Batch) -> Sequence[e.Fact]:
        if outcome.command_id.startswith("evaluate/"):
            heard[id(self)] = heard.get(id(self), 0) + 1
        lost = heard.get(id(self)) == 5
        return () if lost else honest(self, outcome, batch)

    patch.setattr(Loop, "_take", take)


def intent_after_start(patch: pytest.MonkeyPatch) -> None:
    honest, dispatch, sent = Loop._record, VirtualDispatcher.dispatch, set[tuple[int, str]]()

    def record(self: Loop, batch: _Batch) -> None:
        for command in planning.plan(batch.state, batch.at, self._agenda, self._dispatcher.cluster()).commands:
            if isinstance(command, Train) and _unrecorded(self.journal.state, command.spec):
                self._in_flight.add(command.command_id)
                self._dispatcher.dispatch(command)
                sent.add((id(self._dispatcher), command.command_id))
        honest(self, batch)

    def once(self: VirtualDispatcher, command: Command) -> None:
        if (id(self), command.command_id) not in sent:
            dispatch(self, command)

    patch.setattr(Loop, "_record", record)
    patch.setattr(VirtualDispatcher, "dispatch", once)


def _unrecorded(state: State, spec: TrainingSpec) -> bool:
    """Whether the attempt is of a training that the journal knows, and not in it yet."""
    t = state.tournaments.get(spec.tournament_id)
    known = t is not None and spec.task_id in t.tasks and bool(t.tasks[spec.task_id].trainings)
    return known and spec.attempt_id not in state.leases


def wake_up_forgotten(patch: pytest.MonkeyPatch) -> None:
    honest = planning.monitor_training_tasks

    def monitor(*given: Any) -> TaskWork:
        work = honest(*given)
        work.wake_at = None
        return work

    patch.setattr(planning, "monitor_training_tasks", monitor)


def waits_without_reasons(patch: pytest.MonkeyPatch) -> None:
    honest = placement.place

    def place(*given: Any) -> Placed:
        placed = honest(*given)
        return replace(placed, reasons=dict.fromkeys(placed.waits, ""), behind=[])

    everywhere(patch, honest, place)


def person_costs_an_attempt(patch: pytest.MonkeyPatch) -> None:
    honest = trainings._retried

    def retried(training: Training, fact: e.TrainingRetried, at: datetime) -> Training:
        after = honest(training, fact, at)
        if training.status is not TrainingStatus.TRAINING:
            return after
        charged = Failed(blame=Blame.MINER, kind="again", reason="begun anew")
        return trainings._with_attempt(after, replace(after.attempts[-1], outcome=charged))

    patch.setattr(trainings, "_retried", retried)


def _mutant(name: str, bug: str, plant: Any, caught_by: str, setting: Setting = ALL_FAULTS) -> Mutant:
    return Mutant(name, bug, plant, caught_by, setting)


MUTANTS = (
    _mutant("lost outcome", "The fifth evaluation is forgotten.", lost_outcome, STUCK, CALM),
    _mutant("early verdict", "A task is decided at its first metric.", verdict_too_early, "invariant 4", CALM),
    _mutant("stale outcome", "An older attempt's end counts for the one under way.", stale_outcome, "invariant 4"),
    _mutant("endless evaluation", "It is repeated until valid.", evaluations_without_end, "invariant 4", CALM),
    _mutant("intent after start", "What starts is recorded afterwards.", intent_after_start, TRUTH, DEATHS),
    _mutant("no wake-up", "The pause of a training never ends.", wake_up_forgotten, STUCK, EVALUATOR),
    _mutant("no reason", "What waits for GPUs does not say so.", waits_without_reasons, "invariant 12", FEW_GPUS),
    _mutant("person charged", "To begin anew costs an attempt.", person_costs_an_attempt, COMPARISON),
)
