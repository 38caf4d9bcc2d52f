"""The evaluator's death is the platform's fault, until it has died twice at the same checkpoint (RULES §6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.builders import miners
from tests.core.arena import Arena, by_number
from tourney_ray.core import events as e
from tourney_ray.core.checker import violations
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.models import Blame, Evaluated, TrainingStatus
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import Training

DIED = NotEvaluated(reason="its process was killed", died=True)
FAILED = NotEvaluated(reason="the disk is slow")
Said = Evaluated | NotEvaluated | None


def played(says: Callable[[Evaluate, int], Said], rules: Rules | None = None) -> tuple[Arena, Training]:
    """A tournament in which the evaluator says that of `m07` in the first round, at each of its attempts and tries."""

    def measures(command: Evaluate) -> Said:
        first_round = "_round_001" in arena.tournament.tasks[command.task_id].match_id
        if command.hotkey == "m07" and first_round:
            return says(command, int(command.attempt_id.rsplit(".", 1)[1]))
        return by_number(command)

    arena = Arena(miners(8), measures=measures, rules=rules or Rules())
    t = arena.open().run()
    (training,) = (
        task.trainings["m07"] for task in t.tasks.values() if "_round_001" in task.match_id and "m07" in task.trainings
    )
    return arena, training


def failures(arena: Arena) -> list[e.EvaluationFailed]:
    return [fact for fact, _ in arena.stage.facts if isinstance(fact, e.EvaluationFailed)]


def test_one_death_costs_nobody_anything():
    asked: list[int] = []

    def says(command: Evaluate, epoch: int) -> Said:
        asked.append(command.deaths)
        return by_number(command) if command.deaths else DIED

    arena, training = played(says)
    assert asked == [0, 1]
    assert (training.status, len(training.attempts), training.miner_failures) == (TrainingStatus.SUCCESS, 1, 0)
    assert training.evaluated
    assert not training.evaluated.refused
    assert [fact.died for fact in failures(arena)] == [True]


def test_two_deaths_at_one_checkpoint_cost_its_miner_an_attempt():
    arena, training = played(lambda command, epoch: DIED if epoch == 1 else by_number(command))
    assert (training.status, len(training.attempts), training.miner_failures) == (TrainingStatus.SUCCESS, 2, 1)
    assert training.evaluator_deaths == 0
    assert len(failures(arena)) == 2
    assert arena.tournament.completed
    assert arena.tournament.completed.winner == "m07"


def test_when_the_attempts_are_used_up_the_verdict_says_why():
    arena, training = played(lambda command, epoch: DIED)
    assert (training.status, training.failed_by) == (TrainingStatus.FAILURE, Blame.MINER)
    assert len(training.attempts) == training.miner_failures == 2
    assert training.evaluated
    assert training.evaluated.refused == "the evaluator died twice at this checkpoint: its process was killed"
    (verdict,) = (
        v for m in arena.tournament.rounds[0].matches.values() if m.decided for v in m.decided.verdicts
        if v.hotkey == "m07"
    )  # fmt: skip
    assert not verdict.advances
    assert training.evaluated.refused in verdict.because
    assert violations([fact for fact, _ in arena.stage.facts]) == []


def test_other_failures_of_the_evaluator_do_not_count():
    said: list[Said] = [DIED, FAILED, None, FAILED]
    arena, training = played(lambda command, epoch: said.pop(0) if said else by_number(command))
    assert (training.status, len(training.attempts), training.miner_failures) == (TrainingStatus.SUCCESS, 1, 0)
    assert len(failures(arena)) == 4


def test_the_rules_say_how_many_are_too_many():
    arena, training = played(lambda command, epoch: DIED, Rules(max_evaluator_deaths=3, max_training_attempts=1))
    assert len(failures(arena)) == 3
    assert training.evaluated
    assert "died 3 times at this checkpoint" in training.evaluated.refused


def test_one_is_never_too_many():
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        Rules(max_evaluator_deaths=1)


@pytest.mark.lies
def test_the_checker_counts_for_itself():
    """A miner that begins a third attempt, though the evaluator died twice at the checkpoints of both before."""
    arena, _ = played(lambda command, epoch: DIED)
    facts = [fact for fact, _ in arena.stage.facts]
    last = max(i for i, fact in enumerate(facts) if isinstance(fact, e.EvaluationFailed))
    started = [fact for fact in facts if isinstance(fact, e.AttemptStarted) and fact.hotkey == "m07"][1]
    third = started.model_copy(update={"epoch": 3, "attempt_id": started.attempt_id.rsplit(".", 1)[0] + ".3"})
    lease = [fact for fact in facts if isinstance(fact, e.LeaseEnded) and fact.attempt_id == started.attempt_id]
    assert lease
    found = violations([*facts[: last + 1], third])
    assert any(v.number == 4 and "its training is over" in v.what for v in found)
