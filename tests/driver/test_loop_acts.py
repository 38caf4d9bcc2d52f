"""People act on a running driver, nodes come and go, and watchers say things twice or too late."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.builders import credit, miners, offer
from tests.driver.scripted import (
    EIGHT,
    NODE_LOST,
    RULES,
    OpenRig,
    Rig,
    champion,
    kinds,
    lease_ended,
    train_ended,
    train_runs,
    training,
    trains,
)
from tourney_ray.core import events as e
from tourney_ray.core.commands import Announce, AskMiners, Command, Release, Train
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import TournamentStatus, TournamentType, TrainingStatus
from tourney_ray.core.nodes import Node
from tourney_ray.core.schedule import Agenda
from tourney_ray.driver.loop import Outcome
from tourney_ray.errors import NotAllowed

SAID: dict[str, Any] = {"by": "ada", "because": "seen on the dashboard"}
TWO = Cluster((Node("n1", {"H100": 4}), Node("n2", {"H100": 4})))
IGNORED = "ignored: nobody waits for it any more"


def on_training(command: Train, fact: Any) -> Any:
    """What a person does to the training of that command."""
    spec = command.spec
    return fact(tournament_id=command.tournament_id, task_id=spec.task_id, hotkey=spec.hotkey, **SAID)


def cancelled(command: Train) -> e.TournamentCancelled:
    return e.TournamentCancelled(tournament_id=command.tournament_id, **SAID)


def training_rig(rig: OpenRig, **choices: Any) -> Rig:
    """A rig whose four first trainings run."""
    r = rig(**choices)
    r.go_on(trains)
    return r


# --- what people do


def test_an_act_is_recorded_with_all_that_it_forces(rig: OpenRig) -> None:
    r = training_rig(rig)
    before = len(kinds(r.journal))
    r.loop.act(cancelled(r.of(Train)[0]), r.now)
    assert kinds(r.journal)[before:] == ["TournamentCancelled", *["Refunded"] * 4]
    assert set(r.journal.state.balances.values()) == {10**9}


@pytest.mark.parametrize(
    "act",
    [
        e.TournamentCancelled(tournament_id="none", **SAID),
        e.NodeFenced(node="n1", **SAID),
        e.TrainingRetried(tournament_id="text-1", task_id="none", hotkey="m00", **SAID),
    ],
    ids=lambda act: act.kind,
)
def test_what_cannot_be_done_now_is_not_allowed_and_not_recorded(rig: OpenRig, act: e.Act) -> None:
    r = training_rig(rig)
    before, started = list(r.journal.entries()), r.ids
    with pytest.raises(NotAllowed) as caught:
        r.loop.act(act, r.now)
    assert caught.value.message
    assert list(r.journal.entries()) == before
    r.step()
    assert r.ids == started
    r.go_on()
    assert champion(r.journal) == "m03"


def test_a_second_cancellation_is_not_allowed(rig: OpenRig) -> None:
    r = training_rig(rig)
    act = cancelled(r.of(Train)[0])
    r.loop.act(act, r.now)
    with pytest.raises(NotAllowed, match="the tournament is cancelled"):
        r.loop.act(act, r.now)
    assert kinds(r.journal).count("Refunded") == 4


def test_late_outcomes_of_a_cancelled_tournament_are_dropped(rig: OpenRig, caplog: pytest.LogCaptureFixture) -> None:
    """The very next step brings them, before anything was planned anew."""
    r = training_rig(rig)
    watched = r.of(Train)
    r.loop.act(cancelled(watched[0]), r.now)
    r.finish(*watched)
    assert caplog.text.count(IGNORED) == 4
    assert "AttemptEnded" not in kinds(r.journal)
    assert [type(c) for c in r.running] == [Release] * 4
    r.finish(*r.running)
    assert r.journal.state.leases == {}
    assert (r.running, r.loop.waits) == ([], {})
    assert r.journal.state.tournaments["text-1"].status is TournamentStatus.CANCELLED


def test_after_a_cancellation_an_endless_agenda_goes_on(rig: OpenRig) -> None:
    r = training_rig(rig, agenda=Agenda((TournamentType.TEXT,), endless=True, rules=RULES))
    r.loop.act(cancelled(r.of(Train)[0]), r.now)
    r.step()
    assert r.only(Announce).number == 2


def test_a_retried_training_starts_again_at_once_and_its_old_watcher_is_not_heard(
    rig: OpenRig, caplog: pytest.LogCaptureFixture
) -> None:
    r = training_rig(rig)
    old = r.of(Train)[0]
    r.loop.act(on_training(old, e.TrainingRetried), r.now)
    r.finish(old)
    assert IGNORED in caplog.text
    (again,) = [c for c in r.of(Train) if c.spec.hotkey == old.spec.hotkey]
    assert (again.spec.epoch, training(r, old).status) == (2, TrainingStatus.TRAINING)
    assert r.only(Release).spec.attempt_id == old.spec.attempt_id
    r.go_on()
    assert champion(r.journal) == "m03"
    assert r.journal.state.leases == {}


def test_a_reopened_training_is_taken_up_by_the_next_step(rig: OpenRig) -> None:
    r = training_rig(rig)
    old = r.of(Train)[0]
    r.finish(old)
    r.finish(*[c for c in r.running if not isinstance(c, Train)])
    assert training(r, old).evaluated
    r.loop.act(on_training(old, e.TrainingReopened), r.now)
    assert not training(r, old).evaluated
    r.step()
    r.go_on()
    assert champion(r.journal) == "m03"


# --- nodes


def test_nodes_are_recorded_before_anything_is_placed_on_them(rig: OpenRig) -> None:
    r = rig(nodes=Cluster())
    r.go_on(lambda rig: "RoundActivated" in kinds(rig.journal))
    r.dispatcher.nodes = EIGHT
    before = len(kinds(r.journal))
    r.step()
    assert kinds(r.journal)[before:] == ["NodeJoined", *["AttemptStarted"] * 4]
    assert {c.node for c in r.of(Train)} == {"n1"}


def test_nothing_is_placed_on_a_node_that_went_with_the_same_step(rig: OpenRig) -> None:
    r = rig(nodes=TWO)
    r.go_on(trains)
    assert {c.node for c in r.of(Train)} == {"n1"}
    r.dispatcher.nodes = Cluster((Node("n2", {"H100": 4}),))
    lost = r.of(Train)[0]
    r.step(Outcome(lost.command_id, (train_ended(lost, NODE_LOST),)))
    r.sleep()
    assert kinds(r.journal).count("NodeLost") == 1
    again = next(c for c in r.of(Train) if c.spec.hotkey == lost.spec.hotkey)
    assert (again.node, again.spec.epoch) == ("n2", 2)
    assert not r.of(Release), "nobody can look on a node that is gone"
    assert f"lease.{lost.spec.attempt_id}" in r.loop.waits


def test_a_fence_frees_what_a_lost_node_had(rig: OpenRig) -> None:
    r = training_rig(rig)
    watched = r.of(Train)
    r.dispatcher.nodes = Cluster((Node("n2", {"H100": 8}),))
    r.step(*(Outcome(c.command_id, (train_ended(c, NODE_LOST),)) for c in watched))
    assert len(r.journal.state.leases) == 4
    r.loop.act(e.NodeFenced(node="n1", **SAID), r.now)
    assert r.journal.state.leases == {}
    assert set(r.journal.state.nodes) == {"n2"}
    r.sleep()
    assert {c.node for c in r.of(Train)} == {"n2"}
    r.go_on()
    assert champion(r.journal) == "m03"


def test_a_node_that_returns_is_asked_what_still_runs_there(rig: OpenRig) -> None:
    r = training_rig(rig)
    watched = r.of(Train)
    r.dispatcher.nodes = Cluster()
    r.step(*(Outcome(c.command_id, (train_ended(c, NODE_LOST),)) for c in watched))
    assert not r.of(Release)
    r.dispatcher.nodes = EIGHT
    r.step()
    assert {c.spec.attempt_id for c in r.of(Release)} == {c.spec.attempt_id for c in watched}
    r.finish(*r.of(Release))
    assert r.journal.state.leases == {}


def test_news_that_nothing_is_made_of_are_recorded_once(rig: OpenRig) -> None:
    r = rig(agenda=Agenda())
    for nodes in (EIGHT, EIGHT, TWO, Cluster(), EIGHT):
        r.dispatcher.nodes = nodes
        r.step()
    joined = ["NodeJoined"]
    assert kinds(r.journal) == [*joined, *joined, *joined, "NodeLost", "NodeLost", *joined]


# --- what is said twice


def test_an_end_of_a_lease_that_is_known_is_harmless(rig: OpenRig) -> None:
    r = training_rig(rig)
    command = r.of(Train)[0]
    freed = Outcome(command.command_id, (lease_ended(command),), done=False)
    r.step(train_runs(command), train_runs(command), freed, freed)
    r.finish(command)
    assert (kinds(r.journal).count("LeaseEnded"), kinds(r.journal).count("AttemptRunning")) == (1, 1)
    assert training(r, command).status is TrainingStatus.SUCCESS


@pytest.mark.lies  # both tournaments have the seeds of the script
def test_two_registries_that_report_the_same_transfer_in_one_step_credit_it_once(rig: OpenRig) -> None:
    r = rig(agenda=Agenda((TournamentType.TEXT, TournamentType.IMAGE), rules=RULES))
    r.step()
    r.finish(*r.running)
    asked = r.of(AskMiners)
    assert {c.tournament_type for c in asked} == {TournamentType.TEXT, TournamentType.IMAGE}
    r.step(*(Outcome(c.command_id, (*map(credit, miners(4)), _passed(c))) for c in asked))
    assert kinds(r.journal).count("TransferCredited") == 4
    assert kinds(r.journal).count("Charged") == 8
    assert set(r.journal.state.balances.values()) == {10**9 - 200_000_000 - 150_000_000}


def _passed(command: AskMiners) -> e.RegistrationPassed:
    answers = tuple(map(offer, miners(4)))
    return e.RegistrationPassed(tournament_id=command.tournament_id, number=command.number, answers=answers)


# --- all together


@pytest.mark.parametrize("seed", range(6))
def test_whatever_people_do_to_trainings_the_best_one_wins_and_no_lease_is_left(rig: OpenRig, seed: int) -> None:
    dice, r = random.Random(seed), rig()
    r.step()
    for _ in range(400):
        if not r.running:
            break
        command: Command = dice.choice(r.running)
        if isinstance(command, Train) and dice.random() < 0.2:
            act = on_training(command, dice.choice([e.TrainingRetried, e.TrainingReopened]))
            try:
                r.loop.act(act, r.now)
            except NotAllowed:
                assert isinstance(act, e.TrainingReopened) or training(r, command).evaluated
        r.finish(command)
    assert champion(r.journal) == "m03"
    assert r.journal.state.leases == {}
