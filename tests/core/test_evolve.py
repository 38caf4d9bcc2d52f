"""What may follow what: the state follows the facts and refuses the impossible."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any, get_args

import pytest

from tests.builders import CHAMPION, START, credit, miners, offer
from tests.core.arena import CRASH, NODE_LOST, Arena, by_number, measured, trained
from tourney_ray.core import events as e
from tourney_ray.core.commands import Evaluate, PrepareTask
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import (
    AttemptStatus,
    Evaluated,
    Failed,
    TaskStatus,
    Terms,
    TournamentStatus,
    Trained,
    TrainingSpec,
    TrainingStatus,
)
from tourney_ray.core.state import State, Tournament
from tourney_ray.core.transitions import progress
from tourney_ray.errors import IllegalTransition


@cache
def arena() -> Arena:
    """A tournament in which everything happens that can."""

    def trains(spec: TrainingSpec) -> Trained | Failed:
        if spec.hotkey == "m08" and spec.epoch == 1:
            return CRASH
        return NODE_LOST if spec.hotkey == "m07" and spec.epoch == 1 else trained(spec)

    def measures(command: Evaluate) -> Evaluated | None:
        if command.hotkey == "m06" and not command.tries:
            return None
        unlucky = command.number == 1 and command.task_id == played.tasks(1)[0].task_id
        return measured(command, float("nan")) if unlucky else by_number(command)

    def prepares(command: PrepareTask) -> bool:
        return bool(played.tournament.rounds[-1].matches[command.match_id].preparations)

    played = Arena([*miners(9), "poor"], unpaid=["poor"], trains=trains, measures=measures, prepares=prepares)
    played.open().run()
    return played


@cache
def states() -> list[State]:
    """The state before each fact of the arena, and the one at the end."""
    result = [State()]
    for fact, at in arena().stage.facts:
        result.append(evolve(result[-1], fact, at))
    return result


def nth(kind: str, which: int = 0) -> int:
    """Index of the n-th fact of that kind."""
    return [i for i, (fact, _) in enumerate(arena().stage.facts) if fact.kind == kind][which]


def fact_of(kind: str, which: int = 0, **changed: Any) -> e.Fact:
    """The n-th fact of that kind, changed a little."""
    fact, _ = arena().stage.facts[nth(kind, which)]
    return fact.model_copy(update=changed)


def refused(state: State, fact: e.Fact, why: str) -> None:
    with pytest.raises(IllegalTransition) as caught:
        evolve(state, fact, START + timedelta(days=1))
    assert why in caught.value.message


def at_end() -> Tournament:
    return states()[-1].tournaments[arena().tournament_id]


# --- the state follows


def test_folding_the_facts_gives_the_state():
    assert states()[-1] == arena().stage.state
    assert [state.seq for state in states()] == list(range(len(states())))


def test_every_kind_of_fact_happens_here():
    """Nodes that go are tried in `test_leases`, what people do in `test_cancelling` and `test_begun_anew`, images in
    `test_images`.
    """
    elsewhere = {
        "AttemptRunning",
        "ImageBuilt",
        "StagingFailed",
        "NodeLost",
        "Refunded",
        "TaskRepeated",
        *(act.__name__ for act in get_args(e.Act)),
    }
    assert set(arena().kinds) == {kind.__name__ for kind in get_args(e.Fact)} - elsewhere


def test_folding_does_not_touch_the_state_before():
    before, (fact, at) = states()[nth("TaskDecided")], arena().stage.facts[nth("TaskDecided")]
    spelt = repr(before)
    evolve(before, fact, at)
    assert repr(before) == spelt


def test_moments_are_those_of_the_facts():
    t, moments = at_end(), {fact.kind: at for fact, at in arena().stage.facts}
    assert (t.activated_at, t.completed_at) == (moments["TournamentActivated"], moments["TournamentCompleted"])
    assert t.status is TournamentStatus.COMPLETED
    assert t.secret_seed == "22" * 32


def test_a_crash_costs_the_miner_an_attempt_and_a_lost_node_costs_nothing():
    (task, *_) = arena().tasks(1)
    crashed, unlucky = task.trainings["m08"], task.trainings["m07"]
    assert [a.status for a in crashed.attempts] == [AttemptStatus.FAILURE, AttemptStatus.SUCCESS]
    assert (crashed.miner_failures, crashed.platform_failures) == (1, 0)
    assert (unlucky.miner_failures, unlucky.platform_failures) == (0, 1)
    assert {training.status for training in task.trainings.values()} == {TrainingStatus.SUCCESS}


def test_a_container_that_starts_is_noted_with_its_moment():
    started = fact_of("AttemptStarted")
    assert isinstance(started, e.AttemptStarted)
    running = e.AttemptRunning(
        tournament_id=started.tournament_id,
        task_id=started.task_id,
        hotkey=started.hotkey,
        attempt_id=started.attempt_id,
    )
    state = evolve(states()[nth("AttemptStarted") + 1], running, START + timedelta(days=2))
    attempt = state.tournaments[arena().tournament_id].tasks[started.task_id].trainings[started.hotkey].attempt
    assert attempt is not None
    assert attempt.running_at == START + timedelta(days=2)


def test_the_champion_stands_before_all_entrants_and_strangers_nowhere():
    t = at_end()
    assert [t.registration_rank(h) for h in (CHAMPION, *t.entrants)] == [-1, *range(9)]
    assert t.contestant(CHAMPION) == offer(CHAMPION)
    with pytest.raises(KeyError):
        t.contestant("stranger")
    with pytest.raises(KeyError):
        t.registration_rank("stranger")


# --- the impossible


TWICE = {
    "TournamentCreated": "there is a tournament of that id",
    "TransferCredited": "the transfer was credited before",
    "RegistrationPassed": "registration is not open",
    "Charged": "it was charged before",
    "EntrantAccepted": "waits for no answer",
    "EntrantRefused": "poor waits for no answer",
    "TournamentActivated": "registration is not done",
    "RoundDrawn": "the round before is not completed",
    "TaskPrepared": "slot 0 of",
    "RoundActivated": "the round is not pending",
    "AttemptStarted": "the training is training",
    "LeaseEnded": "holds no GPUs",
    "AttemptEnded": "is not the attempt under way",
    "CheckpointEvaluated": "it was evaluated before",
    "EvaluationRepeated": "the task is not up for that evaluation",
    "TaskDecided": "the task was decided before",
    "MatchDecided": "the match was decided before",
    "RoundCompleted": "the round is not active",
    "TournamentCompleted": "the tournament is completed",
    "SecretRevealed": "the secret is not due",
}


@pytest.mark.parametrize(("kind", "why"), TWICE.items())
def test_nothing_happens_twice(kind: str, why: str):
    refused(states()[nth(kind) + 1], fact_of(kind), why)


EARLY = [
    ("TransferCredited", "RegistrationPassed", "there is no tournament"),
    ("RegistrationPassed", "EntrantAccepted", "waits for no answer"),
    ("Charged", "EntrantAccepted", "has not paid"),
    ("RegistrationPassed", "TournamentActivated", "0 of 8 entrants are in"),
    ("Charged", "TournamentActivated", "registration is not done"),
    ("RegistrationPassed", "RoundDrawn", "the tournament is pending"),
    ("RegistrationPassed", "TournamentCompleted", "the tournament is pending"),
    ("RoundDrawn", "TaskPrepared", "no round is drawn"),
    ("RoundDrawn", "TaskPreparationFailed", "no round is drawn"),
    ("RoundDrawn", "RoundActivated", "no round is drawn"),
    ("RoundDrawn", "RoundCompleted", "no round is drawn"),
    ("TaskPrepared", "RoundActivated", "there is no task"),
    ("TaskPrepared", "AttemptStarted", "there is no task"),
    ("RoundActivated", "AttemptStarted", "does not train"),
    ("RoundActivated", "RoundCompleted", "the round is not active"),
    ("AttemptStarted", "AttemptEnded", "is not the attempt under way"),
    ("AttemptStarted", "LeaseEnded", "holds no GPUs"),
    ("AttemptStarted", "CheckpointEvaluated", "the training is pending"),
    ("AttemptStarted", "EvaluationFailed", "the training is pending"),
    ("AttemptStarted", "TaskDecided", "a training is not terminal"),
    ("AttemptStarted", "MatchDecided", "a task is not decided"),
    ("AttemptStarted", "RoundCompleted", "a match is not decided"),
    ("TaskPrepared", "EvaluationRepeated", "there is no task"),
    ("TournamentCompleted", "SecretRevealed", "the secret is not due"),
]


@pytest.mark.parametrize(("before", "kind", "why"), EARLY)
def test_nothing_happens_too_early(before: str, kind: str, why: str):
    index = nth(before) if before != "TransferCredited" else 0
    refused(states()[index], fact_of(kind), why)


BETTER_TERMS = Terms(
    hours=2, dataset_sha256="0" * 64, gpu_type="H100", gpus=8, mem_limit="24g", nano_cpus=8_000_000_000
)

CHANGED: list[tuple[str, dict[str, Any], str]] = [
    ("RegistrationPassed", {"number": 2}, "pass 1 is due"),
    ("Charged", {"rao": 10**9 + 1}, "the balance does not cover it"),
    ("Charged", {"coldkey": "stranger"}, "the balance does not cover it"),
    ("EntrantAccepted", {"entrant": offer("stranger")}, "stranger waits for no answer"),
    ("EntrantRefused", {"hotkey": "stranger"}, "stranger waits for no answer"),
    ("TournamentActivated", {"draw_seed": "33" * 32}, "the seed is not the one committed to"),
    ("SecretRevealed", {"secret_seed": "33" * 32}, "the seed is not the one committed to"),
    ("RoundDrawn", {"number": 2}, "round 1 is due"),
    ("TaskPrepared", {"match_id": "elsewhere"}, "elsewhere is no match of the latest round"),
    ("TaskPrepared", {"slot": 1}, "a match of this round has 1 slots"),
    ("TaskPreparationFailed", {"slot": 1}, "a match of this round has 1 slots"),
    ("RoundActivated", {"round_id": "elsewhere"}, "the round is not pending"),
    ("AttemptStarted", {"epoch": 2}, "epoch 1 is due"),
    ("AttemptStarted", {"tree_hash": "f" * 40}, "entered with tree"),
    ("AttemptStarted", {"terms": BETTER_TERMS}, "the terms are not the task's"),
    ("AttemptStarted", {"node": "n9"}, "n9 has 0 free, 1×H100 are needed"),
    ("AttemptStarted", {"node": "n2"}, "n2 has 0 free, 1×H100 are needed"),
    ("LeaseEnded", {"hotkey": "m00"}, "holds no GPUs"),
    ("LeaseEnded", {"attempt_id": "older"}, "older holds no GPUs"),
    ("AttemptEnded", {"attempt_id": "older"}, "older is not the attempt under way"),
    ("CheckpointEvaluated", {"number": 2}, "that is another evaluation of the task"),
    ("EvaluationFailed", {"number": 2}, "that is another evaluation of the task"),
    ("EvaluationRepeated", {"number": 3}, "the task is not up for that evaluation"),
    ("TaskDecided", {"task_id": "none"}, "there is no task none"),
    ("RoundCompleted", {"round_id": "elsewhere"}, "the round is not active"),
]


@pytest.mark.parametrize(("kind", "changed", "why"), CHANGED)
def test_facts_that_do_not_fit_are_refused(kind: str, changed: dict[str, Any], why: str):
    refused(states()[nth(kind)], fact_of(kind, **changed), why)


def test_two_tournaments_of_a_type_never_run_at_once():
    refused(states()[nth("RoundDrawn")], fact_of("TournamentCreated", tournament_id="second"), "of its type still runs")


def test_the_next_round_waits_for_the_end_of_the_last():
    index = nth("RoundDrawn", 1)
    refused(states()[index - 1], fact_of("RoundDrawn", 1), "the round before is not completed")
    refused(states()[index], fact_of("RoundDrawn", 1, number=3), "round 2 is due")


def test_one_task_is_not_prepared_for_two_places():
    first = fact_of("TaskPrepared", 1)
    assert isinstance(first, e.TaskPrepared)
    refused(states()[nth("TaskPrepared", 2)], fact_of("TaskPrepared", 2, task_id=first.task_id), "a task of that id")


def test_a_decided_task_is_not_evaluated_again():
    decided = fact_of("TaskDecided", status=TaskStatus.SUCCESS)
    assert isinstance(decided, e.TaskDecided)
    again = fact_of("EvaluationRepeated", task_id=decided.task_id, number=3)
    refused(states()[nth("TaskDecided") + 1], again, "the task is not up for that evaluation")


def test_the_intent_of_an_older_lease_does_not_count():
    index = nth("AttemptEnded") + 1
    failed = next(i for i in range(index, len(states())) if _lost(arena().stage.facts[i - 1][0]))
    fact = arena().stage.facts[failed - 1][0]
    assert isinstance(fact, e.AttemptEnded)
    started = next(
        f for f, _ in arena().stage.facts if isinstance(f, e.AttemptStarted) and f.attempt_id == fact.attempt_id
    )
    refused(states()[failed], started, "epoch 2 is due")


def test_a_transfer_is_no_fact_of_a_tournament():
    t = states()[nth("RoundDrawn")].tournaments[arena().tournament_id]
    with pytest.raises(IllegalTransition, match="TransferCredited is not a fact of one tournament"):
        progress(t, credit("m00"), START)


def _lost(fact: e.Fact) -> bool:
    return isinstance(fact, e.AttemptEnded) and fact.outcome == NODE_LOST
