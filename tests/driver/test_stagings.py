"""What the dispatcher remembers of staging, without Ray: what lies where, whose fault it is, which nodes to avoid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.driver.scripted import OpenRig, Rig
from tests.driver.test_dispatch import Task
from tourney_ray.config import Sandbox, Settings
from tourney_ray.core import events as e
from tourney_ray.core.commands import Stage, Train
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Blame, Failed
from tourney_ray.core.nodes import Node
from tourney_ray.core.state import State
from tourney_ray.driver import tasks
from tourney_ray.driver.stage import Staged
from tourney_ray.driver.stagings import UNFIT_S, Stagings
from tourney_ray.effects.engine.build import BuiltImage
from tourney_ray.errors import PlatformFault

UNBUILT = Failed(blame=Blame.MINER, kind="image_build_failed", reason="image build failed at step 4/9")
DOWN = Failed(blame=Blame.PLATFORM, kind="engine_down", reason="no engine listens there")
GONE = Failed(blame=Blame.PLATFORM, kind="inputs_missing", reason="the vetted tree is gone")


@dataclass
class Desk:
    """Stagings whose tasks answer what the test says, a tournament, and a clock that the test moves."""

    rig: Rig
    settings: Settings
    patch: pytest.MonkeyPatch
    now: float = 0.0
    asked: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])

    def __post_init__(self) -> None:
        self.stagings = Stagings(self.settings, lambda: self.state, lambda: self.now)

    @property
    def state(self) -> State:
        return self.rig.journal.state

    @property
    def stage(self) -> Stage:
        return self.rig.of(Stage)[0]

    async def run(self, command: Stage, answer: Staged | Failed) -> tuple[e.Fact, ...]:
        task = Task(answer)
        honest = task.remote

        async def remote(*given: Any) -> Any:
            self.asked.append(given)
            return await honest(*given)

        self.patch.setattr(task, "remote", remote)
        self.patch.setitem(tasks.REMOTE, tasks.stage, task)
        return await self.stagings.run(command)


@pytest.fixture
def desk(rig: OpenRig, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Desk:
    r = rig(nodes=Cluster((Node(named(1), {"H100": 8}),), staged={}))
    r.go_on(until=lambda r: bool(r.of(Stage)))
    docker = settings.model_copy(update={"sandbox": Sandbox(kind="docker")})
    return Desk(r, docker, monkeypatch)


def named(number: int) -> str:
    """A node's name as Ray gives it."""
    return f"{number:02x}" * 28


def staged(command: Stage, which: str = "1") -> Staged:
    image = BuiltImage(
        image_id=f"sha256:{which * 64}",
        tree_hash=command.spec.tree_hash,
        kind="text",
        dockerfile_sha256="d" * 64,
        base_images=("sha256:base",),
        seconds=1.0,
        found=False,
    )
    return Staged(image=image, because="built from the tree")


def key(command: Stage | Train) -> str:
    return f"{command.spec.task_id}.{command.spec.hotkey}"


def test_without_containers_nothing_is_staged(settings: Settings) -> None:
    assert Stagings(settings, State).there() is None


async def test_what_was_staged_is_there_with_the_image_that_it_has(desk: Desk) -> None:
    command = desk.stage
    (built,) = await desk.run(command, staged(command))
    assert isinstance(built, e.ImageBuilt)
    assert (built.image_id, built.node, built.base_images) == (f"sha256:{'1' * 64}", command.node, ("sha256:base",))
    assert desk.stagings.there() == {command.spec.task_id: {key(command): {command.node: f"sha256:{'1' * 64}"}}}
    await desk.run(command, staged(command, "2"))
    assert desk.stagings.there() == {command.spec.task_id: {key(command): {command.node: f"sha256:{'2' * 64}"}}}


async def test_nothing_is_remembered_of_a_tournament_that_is_over(desk: Desk) -> None:
    command = desk.stage
    desk.rig.journal.append(await desk.run(command, staged(command)), desk.rig.now)
    desk.stagings.forget()
    assert desk.stagings.there()
    desk.rig.loop.act(e.TournamentCancelled(tournament_id=command.tournament_id, by="ada", because="x"), desk.rig.now)
    desk.stagings.forget()
    assert desk.stagings.there() == {}


async def test_a_build_that_fails_is_told_and_its_node_is_as_good_as_before(desk: Desk) -> None:
    command = desk.stage
    (failed,) = await desk.run(command, UNBUILT)
    assert isinstance(failed, e.StagingFailed)
    assert (failed.hotkey, failed.failed) == (command.spec.hotkey, UNBUILT)
    assert desk.stagings.unfit() == {}


async def test_a_node_without_an_engine_is_left_alone_for_a_while(desk: Desk) -> None:
    command = desk.stage
    with pytest.raises(PlatformFault, match="no engine listens there"):
        await desk.run(command, DOWN)
    assert desk.stagings.unfit() == {command.node: "no engine listens there"}
    desk.now = UNFIT_S - 1
    assert desk.stagings.unfit()
    desk.now = UNFIT_S
    assert desk.stagings.unfit() == {}


async def test_a_node_that_could_stage_again_is_fit(desk: Desk) -> None:
    command = desk.stage
    with pytest.raises(PlatformFault):
        await desk.run(command, DOWN)
    await desk.run(command, staged(command))
    assert desk.stagings.unfit() == {}


async def test_what_is_missing_elsewhere_does_not_make_a_node_unfit(desk: Desk) -> None:
    with pytest.raises(PlatformFault, match="the vetted tree is gone"):
        await desk.run(desk.stage, GONE)
    assert desk.stagings.unfit() == {}


@pytest.mark.parametrize(("failed", "unfit"), [(DOWN, True), (GONE, False)])
async def test_what_was_staged_is_doubted_when_the_platform_fails_its_attempt(
    desk: Desk, failed: Failed, unfit: bool
) -> None:
    command = desk.stage
    desk.rig.journal.append(await desk.run(command, staged(command)), desk.rig.now)
    train = Train(command.tournament_id, command.spec, command.node, None)
    desk.stagings.doubt(train, UNBUILT)
    assert desk.stagings.there(), "a miner's failure says nothing of the node"
    desk.stagings.doubt(train, failed)
    assert desk.stagings.there() == {command.spec.task_id: {key(command): {}}}
    assert (command.node in desk.stagings.unfit()) is unfit


async def test_an_image_is_asked_for_where_it_was_built_and_then_where_it_was_brought(desk: Desk) -> None:
    command = desk.stage
    joined = [e.NodeJoined(node=named(number), gpus={"H100": 8}) for number in (2, 3, 4, 5)]
    desk.rig.journal.append(joined, desk.rig.now)
    (built,) = await desk.run(command, staged(command))
    desk.rig.journal.append([built], desk.rig.now)
    assert isinstance(built, e.ImageBuilt)
    for number in (3, 2, 9):
        await desk.run(replace(command, node=named(number), image=built), staged(command))
    desk.rig.journal.append([e.NodeLost(node=named(3))], desk.rig.now)
    await desk.run(replace(command, node=named(5), image=built), staged(command))
    assert desk.asked[0][-1] == ()
    assert desk.asked[-1][-1] == (command.node, named(2)), "not from nodes that are lost, or not there"
    await desk.run(replace(command, image=built), staged(command))
    assert desk.asked[-1][-1] == (named(2), named(5)), "nor from the node itself"
