"""What people do to a tournament in the arena, and where that leaves a training."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import START, miners
from tests.core.arena import NODE_LOST, Arena
from tourney_ray.core import events as e
from tourney_ray.core.commands import Train
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import Failed, Trained, TrainingSpec
from tourney_ray.core.state import State, Training
from tourney_ray.errors import IllegalTransition

SAID: dict[str, Any] = {"by": "ada", "because": "seen on the dashboard"}


def refused(state: State, fact: e.Fact, why: str) -> None:
    """The fact cannot follow, for that reason."""
    with pytest.raises(IllegalTransition) as caught:
        evolve(state, fact, START)
    assert why in caught.value.message


def active(**changed: Any) -> Arena:
    """Eight entrants whose first trainings are planned."""
    return Arena(miners(8), **changed).open().until_active()


def first_train(arena: Arena) -> Train:
    """The training that is planned first."""
    return next(c for c in arena.plan().commands if isinstance(c, Train))


def train_of(arena: Arena, spec: TrainingSpec) -> Train:
    """The planned training of the same entrant and task."""
    key = (spec.task_id, spec.hotkey)
    return next(c for c in arena.plan().commands if isinstance(c, Train) and (c.spec.task_id, c.spec.hotkey) == key)


def training(arena: Arena, spec: TrainingSpec) -> Training:
    """What has become of it."""
    return arena.tournament.tasks[spec.task_id].trainings[spec.hotkey]


def of(spec: TrainingSpec, fact: Any, **rest: Any) -> Any:
    """A fact about that training."""
    return fact(tournament_id=spec.tournament_id, task_id=spec.task_id, hotkey=spec.hotkey, **rest)


def ended(spec: TrainingSpec, outcome: Trained | Failed = NODE_LOST) -> e.AttemptEnded:
    """Its attempt is over."""
    return of(spec, e.AttemptEnded, attempt_id=spec.attempt_id, outcome=outcome)


def retried(spec: TrainingSpec) -> e.TrainingRetried:
    """A person has it begin anew."""
    return of(spec, e.TrainingRetried, **SAID)


def reopened(spec: TrainingSpec) -> e.TrainingReopened:
    """A person gives it another chance."""
    return of(spec, e.TrainingReopened, **SAID)


def cancelled(arena: Arena) -> e.TournamentCancelled:
    """A person ends the latest tournament."""
    return e.TournamentCancelled(tournament_id=arena.tournament_id, **SAID)
