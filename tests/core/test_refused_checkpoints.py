"""An output that cannot be evaluated is a failed attempt of the miner's (RULES §6)."""

from __future__ import annotations

import math

from tests.builders import miners
from tests.core.arena import Arena, by_number
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.models import Evaluated, TrainingStatus
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import Tournament, Training

REFUSED = Evaluated(value=math.nan, refused="'model.bin' is refused")


def played(refused_attempts: int, rules: Rules | None = None) -> tuple[Tournament, Training]:
    """A tournament in which so many attempts of `m07` in the first round leave something that is refused."""

    def measures(command: Evaluate) -> Evaluated:
        epoch = int(command.attempt_id.rsplit(".", 1)[1])
        first_round = "_round_001" in arena.tournament.tasks[command.task_id].match_id
        if command.hotkey == "m07" and first_round and epoch <= refused_attempts:
            return REFUSED
        return by_number(command)

    arena = Arena(miners(8), measures=measures, rules=rules or Rules())
    t = arena.open().run()
    (training,) = (tr for task in t.tasks.values() if "_round_001" in task.match_id for tr in _of(task.trainings))
    return t, training


def _of(trainings: dict[str, Training]) -> list[Training]:
    return [trainings["m07"]] if "m07" in trainings else []


def test_a_refused_checkpoint_costs_an_attempt_and_the_next_one_counts():
    t, training = played(1)
    assert training.status is TrainingStatus.SUCCESS
    assert (len(training.attempts), training.miner_failures, training.refusals) == (2, 1, 1)
    assert training.evaluated
    assert not training.evaluated.refused
    assert t.completed
    assert t.completed.winner == "m07"


def test_when_the_attempts_are_used_up_the_refusal_stands():
    t, training = played(9)
    assert training.status is TrainingStatus.FAILURE
    assert len(training.attempts) == training.miner_failures == t.rules.max_training_attempts == 2
    assert training.evaluated == REFUSED
    (verdict,) = (v for m in t.rounds[0].matches.values() if m.decided for v in m.decided.verdicts if v.hotkey == "m07")
    assert not verdict.advances
    assert "'model.bin' is refused" in verdict.because


def test_with_one_attempt_only_there_is_no_second():
    _, training = played(9, Rules(max_training_attempts=1))
    assert (len(training.attempts), training.refusals) == (1, 1)
    assert training.status is TrainingStatus.FAILURE
