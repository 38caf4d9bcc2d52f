"""Trainings that a person has begin anew or gives another chance (RULES §6)."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from tests.builders import CHAMPION
from tests.core.acts import active, ended, first_train, refused, reopened, retried, train_of, training
from tests.core.arena import CRASH, NODE_LOST, Arena, by_number, measured, trained
from tourney_ray.core import events as e
from tourney_ray.core.commands import Evaluate, Release, Train
from tourney_ray.core.models import (
    AttemptStatus,
    Blame,
    Evaluated,
    Failed,
    TournamentStatus,
    TrainingSpec,
    TrainingStatus,
)
from tourney_ray.core.rules import Rules


@pytest.mark.parametrize("missing", ["by", "because"])
@pytest.mark.parametrize("act", get_args(e.Act))
def test_nobody_acts_without_a_name_and_a_reason(act: type[e.Record], missing: str):
    where = {"tournament_id": "t", "task_id": "k", "hotkey": "h", "node": "n"}
    said = {"by": "ada", "because": "seen", **{name: where[name] for name in where if name in act.model_fields}}
    assert act.model_validate(said)
    with pytest.raises(ValidationError, match="at least 1 character"):
        act.model_validate({**said, missing: ""})


# --- retrying


def test_an_attempt_that_is_retried_ends_as_the_platforms_fault_and_costs_nothing():
    arena = active()
    command = first_train(arena)
    arena.do(command)
    arena.stage.record(retried(command.spec))
    one = training(arena, command.spec)
    (attempt,) = one.attempts
    reason = "ada began it anew: seen on the dashboard"
    assert attempt.outcome == Failed(blame=Blame.PLATFORM, kind="retried", reason=reason)
    assert (attempt.status, attempt.ended_at) == (AttemptStatus.FAILURE, arena.stage.at)
    assert (one.status, one.not_before) == (TrainingStatus.PENDING, None)
    assert (one.miner_failures, one.platform_failures) == (0, 0)


def test_its_old_lease_is_released_while_the_new_epoch_starts_elsewhere():
    arena = active()
    command = first_train(arena)
    arena.do(command)
    arena.stage.record(retried(command.spec))
    now = arena.plan()
    (release,) = [c for c in now.commands if isinstance(c, Release)]
    again = train_of(arena, command.spec)
    assert (release.spec.attempt_id, release.node) == (command.spec.attempt_id, command.node)
    assert (again.spec.epoch, again.intent is not None) == (2, True)
    assert not now.wants(command.command_id)
    arena.do(again)
    assert {held.epoch for held in arena.stage.state.leases.values()} == {1, 2}
    refused(arena.stage.state, ended(command.spec), f"{command.spec.attempt_id} is not the attempt under way")
    arena.do(release)
    assert set(arena.stage.state.leases) == {again.spec.attempt_id}
    assert arena.run().status is TournamentStatus.COMPLETED


def test_a_training_may_be_retried_again_and_again():
    arena = active(rules=Rules(max_platform_failures=2))
    spec = first_train(arena).spec
    for _ in range(5):
        arena.do(train_of(arena, spec))
        arena.stage.record(retried(spec))
    arena.do(train_of(arena, spec))
    arena.stage.record(ended(train_of(arena, spec).spec))
    one = training(arena, spec)
    assert (one.status, one.platform_failures, len(one.attempts)) == (TrainingStatus.PENDING, 1, 6)


def test_who_waits_out_a_pause_begins_at_once():
    arena = active(trains=lambda spec: NODE_LOST)
    command = first_train(arena)
    arena.do(command)
    arena.do(train_of(arena, command.spec))
    assert training(arena, command.spec).not_before
    attempts = training(arena, command.spec).attempts
    arena.stage.record(retried(command.spec))
    assert training(arena, command.spec).attempts == attempts
    assert train_of(arena, command.spec).spec.epoch == 2


def test_who_waits_for_the_evaluator_is_evaluated_at_once():
    arena = active(measures=lambda command: None)
    command = first_train(arena)
    for _ in range(2):
        arena.do(train_of(arena, command.spec))
    arena.do(next(c for c in arena.plan().commands if isinstance(c, Evaluate)))
    assert not [c for c in arena.plan().commands if isinstance(c, Evaluate)]
    arena.stage.record(retried(command.spec))
    (again,) = [c for c in arena.plan().commands if isinstance(c, Evaluate)]
    assert (again.hotkey, again.tries) == (command.spec.hotkey, 1)
    assert training(arena, command.spec).status is TrainingStatus.SUCCESS


def test_what_is_over_is_not_retried():
    arena = active(trains=lambda spec: CRASH if spec.hotkey == "m00" else trained(spec))
    command = next(c for c in arena.plan().commands if isinstance(c, Train) and c.spec.hotkey == "m00")
    for _ in range(4):
        arena.do(train_of(arena, command.spec))
    refused(arena.stage.state, retried(command.spec), "the training has failed: it can be reopened")
    other = next(c for c in arena.plan().commands if isinstance(c, Train) and c.spec.task_id != command.spec.task_id)
    for _ in range(2):
        arena.do(train_of(arena, other.spec))
    arena.do(next(c for c in arena.plan().commands if isinstance(c, Evaluate) and c.hotkey == other.spec.hotkey))
    refused(arena.stage.state, retried(other.spec), "the training is success and evaluated")


# --- reopening


def failed(arena: Arena, spec: TrainingSpec) -> Arena:
    """The arena after both attempts of that training."""
    for _ in range(4):
        arena.do(train_of(arena, spec))
    assert training(arena, spec).status is TrainingStatus.FAILURE
    return arena


def test_a_failed_training_that_is_reopened_begins_with_a_clean_slate():
    arena = active(trains=lambda spec: CRASH)
    spec = first_train(arena).spec
    failed(arena, spec).stage.record(reopened(spec))
    one = training(arena, spec)
    assert (one.status, one.miner_failures, one.failed_by, one.trouble) == (TrainingStatus.PENDING, 0, None, "")
    assert [a.status for a in one.attempts] == [AttemptStatus.FAILURE] * 2, "what was, stays on record"
    assert train_of(arena, spec).spec.epoch == 3
    for _ in range(2):
        arena.do(train_of(arena, spec))
    assert training(arena, spec).status is TrainingStatus.PENDING
    assert training(arena, spec).miner_failures == 1


def test_a_checkpoint_whose_training_is_reopened_is_evaluated_again():
    arena = active()
    spec = first_train(arena).spec
    for _ in range(2):
        arena.do(train_of(arena, spec))
    (command,) = [c for c in arena.plan().commands if isinstance(c, Evaluate)]
    arena.do(command)
    attempts = training(arena, spec).attempts
    assert training(arena, spec).evaluated
    arena.stage.record(reopened(spec))
    assert (training(arena, spec).evaluated, training(arena, spec).attempts) == (None, attempts)
    (again,) = [c for c in arena.plan().commands if isinstance(c, Evaluate)]
    assert (again.number, again.checkpoint) == (command.number, command.checkpoint)
    assert again.command_id != command.command_id, "what comes late of the first one is not taken for the second"


def test_what_goes_on_is_not_reopened():
    arena = active()
    command = first_train(arena)
    refused(arena.stage.state, reopened(command.spec), "the training is pending: it can be retried")
    arena.do(command)
    refused(arena.stage.state, reopened(command.spec), "the training is training: it can be retried")
    arena.do(train_of(arena, command.spec))
    refused(arena.stage.state, reopened(command.spec), "its checkpoint is not evaluated yet: it can be retried")


def test_a_verdict_stands_whatever_anybody_wants():
    arena = active()
    spec = first_train(arena).spec
    while arena.tournament.tasks[spec.task_id].decided is None:
        arena.step()
    for act in (retried(spec), reopened(spec)):
        refused(arena.stage.state, act, "its task is decided, and a verdict stands")
    strange = spec.model_copy(update={"hotkey": CHAMPION})
    refused(arena.stage.state, reopened(strange), f"{CHAMPION} does not train {spec.task_id}")


def test_the_winner_whose_checkpoint_is_evaluated_again_may_lose():
    worthless: set[str] = set()

    def measures(command: Evaluate) -> Evaluated:
        return measured(command, float("nan")) if command.hotkey in worthless else by_number(command)

    arena = active(measures=measures)
    spec = first_train(arena).spec
    while not training(arena, spec).evaluated:
        arena.step(lambda commands: next((c for c in commands if isinstance(c, Evaluate)), commands[0]))
    worthless.add(spec.hotkey)
    arena.stage.record(reopened(spec))
    arena.run()
    decided = arena.tournament.tasks[spec.task_id].decided
    assert decided
    assert decided.winner not in (None, spec.hotkey)
