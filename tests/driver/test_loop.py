"""The driver's loop over a real journal: what it starts, in which order it records, and which outcomes it believes."""

from __future__ import annotations

import logging
import random
from itertools import pairwise

import pytest

from tests.driver.scripted import (
    EIGHT,
    NODE_LOST,
    OpenRig,
    champion,
    intents,
    kinds,
    train_ended,
    train_runs,
    training,
    trainings,
    trains,
)
from tourney_ray.core import events as e
from tourney_ray.core.commands import Announce, AskMiners, Command, PrepareTask, RevealDrawSeed, RevealSecretSeed, Train
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import AttemptStatus, GpuRequirement, TrainingStatus
from tourney_ray.core.nodes import Node
from tourney_ray.core.schedule import Agenda
from tourney_ray.driver.loop import Outcome
from tourney_ray.errors import Defect

IGNORED = "ignored: nobody waits for it any more"


def test_the_agenda_announces_first_and_then_one_thing_follows_the_other(rig: OpenRig) -> None:
    r = rig()
    r.step()
    assert r.only(Announce).number == 1
    r.finish(*r.running)
    assert r.only(AskMiners).number == 1
    r.finish(*r.running)
    assert r.only(RevealDrawSeed)
    r.finish(*r.running)
    assert [type(c) for c in r.running] == [PrepareTask, PrepareTask]
    r.finish(*r.running)
    assert [type(c) for c in r.running] == [Train] * 4


def test_an_empty_agenda_does_nothing(rig: OpenRig) -> None:
    r = rig(agenda=Agenda())
    r.step()
    assert (r.ids, r.loop.waits, r.wake_at) == ([], {}, None)
    assert kinds(r.journal) == ["NodeJoined"], "it looks at its cluster all the same"


@pytest.mark.parametrize("seed", range(4))
def test_in_whatever_order_things_end_the_best_one_wins_and_nothing_is_started_twice(rig: OpenRig, seed: int) -> None:
    r = rig()
    r.go_on(pick=random.Random(seed).choice)
    assert champion(r.journal) == "m03"
    assert len(set(r.ids)) == len(r.ids)
    assert isinstance(r.dispatcher.dispatched[-1], RevealSecretSeed)
    assert all(len(one.attempts) == 1 for one in trainings(r.journal))


def test_several_outcomes_in_one_step_are_all_taken(rig: OpenRig) -> None:
    r = rig()
    r.step()
    while r.running:
        r.finish(*r.running)
    assert champion(r.journal) == "m03"
    assert len(set(r.ids)) == len(r.ids)


def test_stepping_without_news_starts_and_records_nothing(rig: OpenRig) -> None:
    r = rig()
    r.go_on(trains)
    before, started = kinds(r.journal), r.ids
    for _ in range(3):
        r.step()
    assert (kinds(r.journal), r.ids) == (before, started)


def test_intents_of_a_step_are_on_the_disk_before_the_first_start(rig: OpenRig) -> None:
    """`Scripted.dispatch` asserts it for each training alone; here, for all that start together."""
    r = rig()
    seen: list[set[str]] = []
    dispatch = r.dispatcher.dispatch

    def look(command: Command) -> None:
        if isinstance(command, Train):
            seen.append(intents(r.journal))
        dispatch(command)

    r.dispatcher.dispatch = look
    r.go_on(trains)
    assert [len(attempts) for attempts in seen] == [4, 4, 4, 4]


def test_an_outcome_without_facts_lets_the_work_be_started_again(rig: OpenRig) -> None:
    r = rig()
    r.step()
    r.step(Outcome(r.ids[0]))
    assert r.ids == ["announce/text/1"] * 2
    assert kinds(r.journal) == ["NodeJoined"]


def test_the_demand_is_announced_when_it_changes_and_then_only(rig: OpenRig) -> None:
    r = rig(nodes=Cluster((Node("n1", {"H100": 1}),)))
    r.go_on(trains)
    assert r.dispatcher.demands == [[], [GpuRequirement.H100_1X] * 4], "the first step withdraws what was asked before"
    r.step()
    assert len(r.dispatcher.demands) == 2
    r.finish(*r.running)
    assert r.dispatcher.demands[2:] == [[GpuRequirement.H100_1X] * 3]
    r.dispatcher.nodes = EIGHT
    r.go_on()
    assert r.dispatcher.demands[-1] == []
    assert all(one != other for one, other in pairwise(r.dispatcher.demands))


# --- outcomes that nobody waits for


def test_a_duplicate_is_ignored_and_logged(rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    r = rig()
    r.go_on(trains)
    outcome = r.outcome(r.running[0])
    r.step(outcome)
    state, started = r.journal.state, r.ids
    r.step(outcome)
    assert (r.journal.state, r.ids) == (state, started)
    assert [record.getMessage() for record in caplog.records] == [f"outcome of {outcome.command_id} {IGNORED}"]
    assert caplog.records[0].levelno == logging.WARNING


def test_of_two_outcomes_in_one_step_the_first_counts(rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    r = rig()
    r.go_on(trains)
    command = r.of(Train)[0]
    r.step(r.outcome(command), Outcome(command.command_id, (train_ended(command, NODE_LOST),)))
    assert training(r, command).status is TrainingStatus.SUCCESS
    assert IGNORED in caplog.text


def test_an_outcome_of_what_was_never_started_is_ignored(rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    r = rig()
    r.go_on(trains)
    before = r.journal.state
    transfer = e.TransferCredited(transfer_id="t", coldkey="c", rao=1)
    r.step(Outcome("train/of-another-life", (transfer,)))
    assert r.journal.state == before
    assert "train/of-another-life" in caplog.text


def test_a_stale_outcome_of_what_is_over_is_ignored(rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    """A watcher that reports the end as progress, and then another end: the plan wants it no more."""
    r = rig()
    r.go_on(trains)
    command = r.of(Train)[0]
    r.step(Outcome(command.command_id, r.outcome(command).facts, done=False))
    before = r.journal.state
    r.step(Outcome(command.command_id, (train_ended(command, NODE_LOST),)))
    assert r.journal.state == before
    assert IGNORED in caplog.text


def test_progress_is_recorded_and_keeps_the_command_in_flight(rig: OpenRig) -> None:
    r = rig()
    r.go_on(trains)
    command, started = r.of(Train)[0], r.ids
    r.step(train_runs(command))
    attempt = training(r, command).attempt
    assert attempt
    assert (attempt.status, attempt.running_at) == (AttemptStatus.TRAINING, r.now)
    assert r.ids == started
    r.finish(command)
    assert training(r, command).status is TrainingStatus.SUCCESS


# --- contradictions


def test_a_contradiction_raises_and_nothing_of_that_step_is_recorded(rig: OpenRig) -> None:
    r = rig()
    r.go_on(trains)
    good, bad = r.of(Train)[:2]
    before, started = list(r.journal.entries()), r.ids
    wrong = train_ended(bad, NODE_LOST).model_copy(update={"attempt_id": "of-somebody-else"})
    with pytest.raises(Defect, match="of-somebody-else is not the attempt under way"):
        r.step(r.outcome(good), Outcome(bad.command_id, (wrong,)))
    assert list(r.journal.entries()) == before
    assert r.ids == started


def test_half_an_outcome_is_not_recorded(rig: OpenRig) -> None:
    r = rig()
    r.go_on(lambda rig: isinstance(rig.running[0], AskMiners))
    transfer = e.TransferCredited(transfer_id="t", coldkey="c", rao=1)
    passed = e.RegistrationPassed(tournament_id="text-1", number=2, answers=())
    with pytest.raises(Defect, match="pass 1 is due"):
        r.step(Outcome(r.running[0].command_id, (transfer, passed)))
    assert kinds(r.journal) == ["NodeJoined", "TournamentCreated"]
    assert r.journal.state.balances == {}
