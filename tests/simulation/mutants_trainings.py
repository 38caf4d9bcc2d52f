"""Planted bugs about GPUs, attempts and the driver's own work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from tests.simulation.planting import ALL_FAULTS, CALM, COMPARISON, TRUTH, Mutant, deaf, everywhere
from tourney_ray.core import events as e, leases, placement, plan as planning, settle, trainings
from tourney_ray.core.commands import Train
from tourney_ray.core.leases import Cluster, Staged
from tourney_ray.core.models import AttemptStatus, Blame, TrainingSpec, TrainingStatus
from tourney_ray.core.nodes import Lease
from tourney_ray.core.open_tasks import TaskWork
from tourney_ray.core.queueing import Line, Request
from tourney_ray.core.retry import after_failure
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import State, Task, Tournament, Training
from tourney_ray.simulation.effects import VirtualDispatcher
from tourney_ray.simulation.run import Setting

TAMPERED = hashlib.sha1(b"tampered").hexdigest()


# --- leases


def double_start(patch: pytest.MonkeyPatch) -> None:
    honest = planning.monitor_training_tasks

    def again(t: str, task: Task, since: datetime, now: datetime, known: TaskWork | None = None) -> TaskWork:
        work = honest(t, task, since, now)
        for training in task.trainings.values():
            if training.status is TrainingStatus.TRAINING and len(training.attempts) == 1:
                need, entrant = task.gpu_requirement, (t, training.hotkey)
                request = Request(training.key, need, task.hours, since, 2, task.task_id, entrant, training)
                work.line = Line({**(work.line.by_key if work.line else {}), training.key: request})
        return work

    patch.setattr(planning, "monitor_training_tasks", again)
    deaf(patch, "the training is training")


def _over(state: State, lease: Lease) -> bool:
    training = state.tournaments[lease.tournament_id].tasks[lease.task_id].trainings[lease.hotkey]
    return training.attempts[lease.epoch - 1].status is not AttemptStatus.TRAINING


def _frees(patch: pytest.MonkeyPatch, free: Callable[[State, Lease], bool]) -> None:
    """End the leases of which that is true, at once."""
    honest = settle.fenced_leases

    def ends(state: State) -> list[e.LeaseEnded]:
        over = [leases._end(lease, "it must be over") for lease in state.leases.values() if free(state, lease)]
        return honest(state) or [fact.model_copy(update={"witness": "watcher"}) for fact in over]

    patch.setattr(settle, "fenced_leases", ends)


def lease_freed_early(patch: pytest.MonkeyPatch) -> None:
    _frees(patch, _over)


def lost_node_frees_leases(patch: pytest.MonkeyPatch) -> None:
    _frees(patch, lambda state, lease: state.nodes[lease.node].lost_at is not None)


def over_is_free(patch: pytest.MonkeyPatch) -> None:
    _room(patch, lambda state: replace(state, held=_held([x for x in state.leases.values() if not _over(state, x)])))


def lost_is_there(patch: pytest.MonkeyPatch) -> None:
    def all_there(state: State) -> State:
        return replace(state, nodes={key: replace(node, lost_at=None) for key, node in state.nodes.items()})

    _room(patch, all_there)
    _believed_staged(patch, all_there)


def _believed_staged(patch: pytest.MonkeyPatch, seen: Callable[[State], State]) -> None:
    """Let what is staged be placed as the state is wrongly seen, as if lost nodes kept all that they had."""
    honest, told, place = VirtualDispatcher.cluster, dict[str, Staged](), placement.place

    def cluster(self: VirtualDispatcher) -> Cluster:
        found = honest(self)
        for task_id, staged in (found.staged or {}).items():
            before = told.get(task_id, {})
            told[task_id] = {**before, **{key: {**before.get(key, {}), **nodes} for key, nodes in staged.items()}}
        return replace(found, staged=told)

    patch.setattr(VirtualDispatcher, "cluster", cluster)
    everywhere(patch, place, lambda queue, state, *more: place(queue, seen(state), *more))


def _room(patch: pytest.MonkeyPatch, seen: Callable[[State], State]) -> None:
    """Let attempts be placed, and accepted, where they would fit in the state as it is wrongly seen."""
    free, began = leases.free_gpus, leases.lease_began

    def let_begin(state: State, fact: e.AttemptStarted, at: datetime) -> State:
        after = began(seen(state), fact, at)
        return replace(after, nodes=state.nodes, held=_held(after.leases.values()))

    everywhere(patch, free, lambda state: free(seen(state)))
    everywhere(patch, began, let_begin)


def _held(held: Iterable[Lease]) -> dict[tuple[str, str], int]:
    result: dict[tuple[str, str], int] = {}
    for lease in held:
        result[lease.node, lease.gpu_type] = result.get((lease.node, lease.gpu_type), 0) + lease.gpus
    return result


# --- attempts


def platform_fault_charged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Training, "miner_failures", property(lambda self: self.refusals + len(self._blames())))


def _other_limits(patch: pytest.MonkeyPatch, **limits: int) -> None:
    def step(blame: Blame, reason: str, mine: int, ours: int, rules: Rules) -> Any:
        return after_failure(blame, reason, mine, ours, rules.model_copy(update=limits))

    everywhere(patch, after_failure, step)


def one_attempt_more(patch: pytest.MonkeyPatch) -> None:
    _other_limits(patch, max_training_attempts=3)


def platform_gives_up_at_once(patch: pytest.MonkeyPatch) -> None:
    _other_limits(patch, max_platform_failures=1)


def _other_start(patch: pytest.MonkeyPatch, change: Callable[[Train, Task], Train]) -> None:
    honest = planning._start

    def start(state: State, training: Training, node: str) -> Train:
        task = state.tournaments[training.tournament_id].tasks[training.task_id]
        return change(honest(state, training, node), task)

    patch.setattr(planning, "_start", start)


def _other_intent(train: Train, **changes: Any) -> Train:
    assert train.intent is not None
    return replace(train, intent=train.intent.model_copy(update=changes))


def terms_differ(patch: pytest.MonkeyPatch) -> None:
    def change(train: Train, task: Task) -> Train:
        assert train.intent is not None
        less = train.intent.terms.model_copy(update={"hours": train.intent.terms.hours / 2})
        return _other_intent(train, terms=less) if train.spec.hotkey == max(task.trainings) else train

    _other_start(patch, change)
    deaf(patch, "the terms are not the task's")


def other_tree(patch: pytest.MonkeyPatch) -> None:
    def change(train: Train, task: Task) -> Train:
        if train.spec.epoch == 1:
            return train
        spec = train.spec.model_copy(update={"tree_hash": TAMPERED})
        return _other_intent(replace(train, spec=spec), tree_hash=TAMPERED)

    _other_start(patch, change)
    deaf(patch, "entered with tree")


def _other_spec(patch: pytest.MonkeyPatch, change: Callable[[TrainingSpec], dict[str, Any]]) -> None:
    honest = trainings.spec_of

    def spec(t: Tournament, task: Task, training: Training, epoch: int) -> TrainingSpec:
        made = honest(t, task, training, epoch)
        return made.model_copy(update=change(made))

    everywhere(patch, honest, spec)


def other_tree_than_recorded(patch: pytest.MonkeyPatch) -> None:
    _other_spec(patch, lambda spec: {"tree_hash": TAMPERED})
    deaf(patch, "entered with tree")


def other_hours_than_recorded(patch: pytest.MonkeyPatch) -> None:
    _other_spec(patch, lambda spec: {"hours_to_complete": spec.hours_to_complete * (1 + spec.hotkey.endswith("3"))})


def _mutant(name: str, bug: str, plant: Any, caught_by: str, setting: Setting = ALL_FAULTS) -> Mutant:
    return Mutant(name, bug, plant, caught_by, setting)


MUTANTS = (
    _mutant("double start", "A training under way is started once more.", double_start, "invariant 1", CALM),
    _mutant("platform charged", "Every fault costs an attempt.", platform_fault_charged, COMPARISON),
    _mutant("lease freed early", "An attempt that is over holds no GPUs.", lease_freed_early, TRUTH),
    _mutant("lost node frees", "The leases of a lost node end with it.", lost_node_frees_leases, TRUTH),
    _mutant("over is free", "GPUs of an attempt that is over are given away.", over_is_free, "invariant 1"),
    _mutant("lost is there", "Attempts are placed on lost nodes.", lost_is_there, TRUTH),
    _mutant("one attempt more", "Three failures end a training.", one_attempt_more, "invariant 4", CALM),
    _mutant("gives up", "One fault of the platform ends a training.", platform_gives_up_at_once, COMPARISON),
    _mutant("terms differ", "One entrant of a task has half the hours.", terms_differ, "invariant 6", CALM),
    _mutant("other tree", "A second attempt trains another tree.", other_tree, "invariant 8", CALM),
    _mutant("tree not recorded", "Another tree runs than is recorded.", other_tree_than_recorded, TRUTH, CALM),
    _mutant("hours not recorded", "One entrant's container has more hours.", other_hours_than_recorded, TRUTH, CALM),
)
