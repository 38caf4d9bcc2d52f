"""What the driver's loop says of all that does not run, and when it wants to be woken."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.builders import CHAMPION, offer
from tests.driver.scripted import (
    AGENDA,
    EIGHT,
    NODE_LOST,
    RULES,
    OpenRig,
    Rig,
    champion,
    evaluation_failed,
    preparation_failed,
    train_ended,
    trains,
)
from tourney_ray.core.commands import Announce, AskMiners, Evaluate, PrepareTask, Train
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Blame, Failed, RoundStatus, TournamentStatus, TournamentType
from tourney_ray.core.nodes import Node
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import Tournament
from tourney_ray.driver.loop import Outcome


def everything_has_its_reason(r: Rig) -> None:
    """All that is not done and not under way is in `waits` with a reason."""
    under_way = {command.command_id for command in r.running}
    for t in r.journal.state.live():
        for key, command_ids in open_ends(t):
            assert under_way & command_ids or r.loop.waits.get(key), f"{key} neither runs nor has a reason to wait"
    assert all(r.loop.waits.values())


def open_ends(t: Tournament) -> Iterator[tuple[str, set[str]]]:
    """What is not done in a tournament: by which name it waits, and which commands may be at work on it."""
    last = t.round
    if t.status is TournamentStatus.PENDING:
        yield t.tournament_id, {f"ask/{t.tournament_id}/{t.passes + 1}", f"reveal-draw/{t.tournament_id}"}
    elif last and last.status is RoundStatus.PENDING:
        wanted = range(2 if last.round_type.value == "boss" else 1)
        yield from (
            (f"{m}.{slot}", set()) for m, match in last.matches.items() for slot in set(wanted) - set(match.tasks)
        )
    elif last:
        for task in t.tasks.values():
            for hotkey, one in task.trainings.items():
                attempt = one.attempt.attempt_id if one.attempt else ""
                ids = {f"train/{attempt}", f"evaluate/{attempt}/{task.evaluation}/{one.evaluation_failures}"}
                if not task.decided:
                    yield f"{task.task_id}.{hotkey}", ids


@pytest.mark.parametrize(
    "nodes",
    [EIGHT, Cluster((Node("n1", {"H100": 2}),)), Cluster((Node("n1", {"H100": 8}),), max_trainers=1)],
    ids=["room for all", "two GPUs", "one trainer at a time"],
)
def test_everything_that_does_not_run_says_what_it_waits_for(rig: OpenRig, nodes: Cluster) -> None:
    r = rig(nodes=nodes, after_step=everything_has_its_reason)
    r.go_on(pick=random.Random(1).choice)
    assert champion(r.journal) == "m03"


def test_reasons_name_what_is_missing(rig: OpenRig) -> None:
    r = rig(nodes=Cluster((Node("n1", {"H100": 1}), Node("n2", {"A100": 8}))))
    r.go_on(trains)
    assert len(r.running) == 1
    *others, first = sorted(r.loop.waits.values())
    assert others == ["needs 1×H100 on one node: all are leased"] * 2
    assert first.startswith(
        "needs 1×H100 on one node: n1 is kept for it, free at 2026-01-01 01:02:06 UTC at the latest"
    )
    r.dispatcher.nodes = Cluster()
    r.step()
    assert list(r.loop.waits.values()) == ["needs 1×H100 on one node: no node has that"] * 3
    r.dispatcher.nodes = Cluster((Node("n1", {"H100": 8}),), max_trainers=1)
    r.step()
    assert list(r.loop.waits.values()) == ["1 trainers run, as many as this machine may"] * 3
    r.dispatcher.nodes = EIGHT
    r.step()
    assert len(r.running) == 4
    assert list(r.loop.waits.values()) == []


def test_a_fault_of_the_platform_is_waited_out_and_tried_again(rig: OpenRig) -> None:
    r = rig()
    r.go_on(trains)
    command = r.of(Train)[0]
    r.step(Outcome(command.command_id, (train_ended(command, NODE_LOST),)))
    assert r.wake_at == r.now + timedelta(seconds=RULES.platform_retry_s)
    assert "its node was lost; tried again at" in r.loop.waits[f"{command.spec.task_id}.{command.spec.hotkey}"]
    assert len(r.ids) == len(set(r.ids))
    started = len(r.ids)
    r.step(after_s=RULES.platform_retry_s / 2)
    assert len(r.ids) == started
    r.sleep()
    (again,) = r.dispatcher.dispatched[started:]
    assert isinstance(again, Train)
    assert (again.spec.hotkey, again.spec.epoch) == (command.spec.hotkey, 2)
    assert again.command_id != command.command_id
    assert r.wake_at is None


def test_of_several_pauses_the_first_to_end_wakes(rig: OpenRig) -> None:
    r = rig()
    r.go_on(trains)
    dues: list[datetime] = []
    for command in r.of(Train)[:2]:
        r.step(Outcome(command.command_id, (train_ended(command, NODE_LOST),)))
        dues.append(r.now + timedelta(seconds=RULES.platform_retry_s))
    assert r.wake_at == dues[0] < dues[1]
    r.sleep()
    assert r.wake_at == dues[1]


def test_a_miners_own_failure_is_tried_again_at_once(rig: OpenRig) -> None:
    r = rig()
    r.go_on(trains)
    command = r.of(Train)[0]
    mine = Failed(blame=Blame.MINER, kind="crashed", reason="exit status 1")
    r.step(Outcome(command.command_id, (train_ended(command, mine),)))
    assert r.wake_at is None
    assert [c.spec.epoch for c in r.of(Train) if c.spec.hotkey == command.spec.hotkey] == [2]


def test_a_failed_evaluation_is_tried_again_as_a_command_of_its_own(rig: OpenRig) -> None:
    r = rig()
    r.go_on(trains)
    r.finish(r.running[0])
    command = r.only(Evaluate)
    r.step(Outcome(command.command_id, (evaluation_failed(command),)))
    assert r.wake_at == r.now + timedelta(seconds=RULES.platform_retry_s)
    r.sleep()
    assert r.only(Evaluate).command_id != command.command_id
    r.go_on()
    assert champion(r.journal) == "m03"


def test_a_failed_preparation_is_repeated_with_another_task(rig: OpenRig) -> None:
    r = rig()
    r.go_on(lambda rig: isinstance(rig.running[0], PrepareTask))
    failing = r.of(PrepareTask)[0]
    r.step(Outcome(failing.command_id, (preparation_failed(failing),)))
    due = r.now + timedelta(seconds=RULES.platform_retry_s)
    assert r.wake_at == due
    assert f"repeated at {due:%H:%M:%S}" in r.loop.waits[f"{failing.match_id}.{failing.slot}"]
    r.sleep()
    last = r.dispatcher.dispatched[-1]
    assert isinstance(last, PrepareTask)
    assert (last.match_id, last.slot) == (failing.match_id, failing.slot)
    assert last.task_id != failing.task_id


def test_too_few_miners_are_asked_again_half_an_hour_later(rig: OpenRig) -> None:
    r = rig(entrants=3)
    r.go_on()
    assert r.wake_at == r.now + timedelta(minutes=30)
    assert r.loop.waits["text-1"].startswith("3 of 4 entrants: the miners are asked again at ")
    r.entrants = 4
    r.sleep()
    assert r.only(AskMiners).number == 2
    assert r.only(AskMiners).known == {"m00", "m01", "m02", CHAMPION}
    r.go_on()
    assert champion(r.journal) == "m03"


def test_an_endless_agenda_wakes_for_the_next_tournament_with_the_new_champion(rig: OpenRig) -> None:
    r = rig(agenda=Agenda((TournamentType.TEXT,), endless=True, rules=AGENDA.rules))
    r.go_on()
    ended = r.journal.state.tournaments["text-1"].completed_at
    assert ended
    assert r.wake_at == ended + timedelta(hours=RULES.tournament_interval_hours)
    assert r.loop.waits["text"].startswith("the next text tournament starts at ")
    r.sleep()
    announce = r.only(Announce)
    assert (announce.number, announce.champion_wins) == (2, 1)
    assert announce.champion == offer("m03")
