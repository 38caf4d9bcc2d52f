"""Staging in the driver's loop: what is recorded of it, when a training follows, and which outcomes come too late."""

from __future__ import annotations

from dataclasses import replace

from tests.driver.scripted import OpenRig, Rig, built, champion, kinds, train_runs
from tourney_ray.core import events as e
from tourney_ray.core.commands import Stage, Train
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Blame, Failed
from tourney_ray.core.nodes import Node
from tourney_ray.core.staging import put
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.outcomes import staging_failed

FOUR = Cluster((Node("n1", {"H100": 4}),))
STAGED = replace(FOUR, staged={})
UNBUILT = Failed(blame=Blame.MINER, kind="image_build_failed", reason="image build failed at step 4/9")


def stages(r: Rig) -> bool:
    return bool(r.of(Stage))


def place(r: Rig, *commands: Stage) -> None:
    """What was to be staged lies there from now on."""
    cluster = r.dispatcher.nodes
    staged = dict(cluster.staged or {})
    for c in commands:
        task_id = c.spec.task_id
        staged[task_id] = put(staged.get(task_id, {}), f"{task_id}.{c.spec.hotkey}", c.node, built(c).image_id)
    r.dispatcher.nodes = replace(cluster, staged=staged)


def test_what_is_staged_starts_in_the_step_that_hears_of_it(rig: OpenRig) -> None:
    r = rig(nodes=STAGED)
    r.go_on(until=stages)
    first, second = r.of(Stage)
    assert not r.of(Train)
    place(r, first)
    r.finish(first)
    assert kinds(r.journal)[-2:] == ["ImageBuilt", "AttemptStarted"]
    assert (r.only(Train).spec.hotkey, r.only(Train).node) == (first.spec.hotkey, first.node)
    assert r.only(Train).spec.image_id == built(first).image_id
    assert second in r.of(Stage)
    assert len(r.of(Stage)) == 2


def test_a_staged_tournament_is_played_to_its_end(rig: OpenRig) -> None:
    r = rig(nodes=STAGED)
    r.go_on(until=stages)
    while r.running:
        command = r.running[0]
        if isinstance(command, Stage):
            place(r, command)
        r.finish(command)
    assert champion(r.journal)
    assert kinds(r.journal).count("ImageBuilt") == 5, "four entrants and the champion"


def test_a_fault_of_the_platform_is_no_fact_and_is_tried_again(rig: OpenRig) -> None:
    r = rig(nodes=STAGED)
    r.go_on(until=stages)
    first, _ = r.of(Stage)
    before = len(kinds(r.journal))
    r.step(Outcome(first.command_id))
    assert len(kinds(r.journal)) == before
    assert r.ids.count(first.command_id) == 2
    key = f"{first.spec.task_id}.{first.spec.hotkey}"
    assert r.loop.waits[key] == "its image and data are being staged on n1"


def test_a_failed_build_is_an_attempt_and_the_next_one_is_staged(rig: OpenRig) -> None:
    r = rig(nodes=STAGED)
    r.go_on(until=stages)
    first, _ = r.of(Stage)
    r.step(Outcome(first.command_id, (staging_failed(first, UNBUILT),)))
    assert kinds(r.journal)[-1] == "StagingFailed"
    again = [c for c in r.of(Stage) if c.spec.hotkey == first.spec.hotkey]
    assert [c.spec.epoch for c in again] == [2]
    late = Outcome(first.command_id, (staging_failed(first, UNBUILT),))
    r.step(late)
    assert kinds(r.journal).count("StagingFailed") == 1


def test_an_image_is_recorded_also_when_its_training_is_staged_elsewhere_by_then(rig: OpenRig) -> None:
    r = rig(nodes=STAGED)
    r.go_on(until=stages)
    first, _ = r.of(Stage)
    r.dispatcher.nodes = replace(STAGED, nodes=(Node("n2", {"H100": 8}),))
    r.step()
    assert not r.loop.wants(first.command_id)
    r.step(r.outcome(first), Outcome(first.command_id, (built(first, 2),)))
    images = [entry.fact for entry in r.journal.entries() if isinstance(entry.fact, e.ImageBuilt)]
    assert images == [built(first)], "once, and nothing of an outcome that comes twice"
    (moved,) = [c for c in r.of(Stage) if c.spec == first.spec]
    assert (moved.node, moved.image) == ("n2", None)
    assert r.ids.count(moved.command_id) == 1


def test_what_is_being_staged_stays_where_it_is_though_another_node_is_fuller(rig: OpenRig) -> None:
    r = rig(nodes=STAGED)
    r.go_on(until=stages)
    first, second = r.of(Stage)
    r.dispatcher.nodes = replace(STAGED, nodes=(*FOUR.nodes, Node("n2", {"H100": 2})))
    r.step()
    assert r.loop.wants(first.command_id)
    assert r.loop.wants(second.command_id)
    assert {c.node for c in r.of(Stage)} == {"n1", "n2"}


def test_a_build_that_fails_elsewhere_by_then_costs_nothing(rig: OpenRig) -> None:
    r = rig(nodes=STAGED)
    r.go_on(until=stages)
    first, _ = r.of(Stage)
    r.dispatcher.nodes = replace(STAGED, nodes=(Node("n2", {"H100": 8}),))
    r.step()
    r.step(Outcome(first.command_id, (staging_failed(first, UNBUILT),)))
    assert "StagingFailed" not in kinds(r.journal)


def test_an_image_of_a_cancelled_tournament_is_not_recorded(rig: OpenRig) -> None:
    r = rig(nodes=STAGED)
    r.go_on(until=stages)
    first, _ = r.of(Stage)
    r.loop.act(e.TournamentCancelled(tournament_id=first.tournament_id, by="ada", because="tested"), r.now)
    r.step(r.outcome(first))
    assert "ImageBuilt" not in kinds(r.journal)


def test_an_image_that_is_known_is_no_news(rig: OpenRig) -> None:
    r = rig(nodes=STAGED)
    r.go_on(until=stages)
    first, second = r.of(Stage)
    place(r, first)
    r.finish(first)
    r.step(train_runs(r.only(Train)))
    r.step(Outcome(second.command_id, (built(first), built(second))))
    assert kinds(r.journal).count("ImageBuilt") == 2
