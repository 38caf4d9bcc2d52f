"""Evaluators that hold a GPU: where they are made, how long they are kept, and what the loop counts them as.

The actors say what the test says.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayError

from tests.builders import data
from tests.driver.scripted import OpenRig, trains
from tourney_ray.config import Settings
from tourney_ray.core.commands import Evaluate, Train
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Evaluated, TaskType
from tourney_ray.core.nodes import Node
from tourney_ray.driver import gpu_evaluators as module
from tourney_ray.driver.evaluators import UNFIT_S
from tourney_ray.driver.gpu_claims import Gpu
from tourney_ray.driver.gpu_evaluators import GpuEvaluators

A, B = "0a" * 28, "0b" * 28
NODES = [{"NodeID": name, "Resources": {"CPU": 4.0, "GPU": 8.0, "H100": 8.0}} for name in (A, B)]
MEASURED = Evaluated(value=1.5, per_row=(1.0, 2.0))
SEED = bytes(32)


def on(node: str, hotkey: str = "m0") -> Evaluate:
    """An evaluation that the plan has seated on that node."""
    return Evaluate("t", "task", TaskType.INSTRUCT, hotkey, "x", "out", data(), 1, 0, gpu_type="H100", node=node)


class Lab:
    """Evaluators whose actors are made of air."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.made: list[Gpu] = []
        self.held: list[dict[str, Any]] = []
        self.says: Any = MEASURED
        self.go_on = asyncio.Event()
        self.go_on.set()
        monkeypatch.setattr(module.ray, "remote", lambda _: self)
        self.evaluators = GpuEvaluators(settings, lambda: self.now)
        self.evaluators.see(NODES)

    def options(self, **how: Any) -> Lab:
        self.held.append({name: how[name] for name in ("num_cpus", "num_gpus", "resources", "max_restarts")})
        assert not how["scheduling_strategy"].soft
        return self

    def remote(self, _: Settings, gpu: Gpu) -> Any:
        self.made.append(gpu)
        return type("Actor", (), {"evaluate": type("Method", (), {"remote": staticmethod(self._answer)})})()

    async def _answer(self, *_: Any) -> Any:
        await self.go_on.wait()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def ask(self, node: str = A) -> Evaluated | NotEvaluated:
        return await self.evaluators.evaluate(on(node), SEED)

    async def ask_at_once(self, *nodes: str) -> list[Evaluated | NotEvaluated]:
        self.go_on.clear()
        asked = [asyncio.create_task(self.ask(node)) for node in nodes]
        await asyncio.sleep(0)
        self.go_on.set()
        return await asyncio.gather(*asked)


@pytest.fixture
async def lab(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(settings, monkeypatch)


async def test_each_evaluation_has_an_evaluator_with_a_gpu_of_its_own(lab: Lab) -> None:
    assert await lab.ask_at_once(A, A, B) == [MEASURED] * 3
    assert lab.made == [Gpu(A, "H100", 8), Gpu(A, "H100", 8), Gpu(B, "H100", 8)]
    assert lab.held == [{"num_cpus": 0, "num_gpus": 1, "resources": {"H100": 1}, "max_restarts": 0}] * 3


async def test_the_next_one_there_takes_over_an_evaluator_that_is_warm(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        await lab.ask()
    assert len(lab.made) == 1
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    await lab.ask()
    await let_timers_run()
    await lab.ask()
    assert len(lab.made) == 2


async def test_an_idle_one_gives_way_to_what_starts_there(lab: Lab) -> None:
    await lab.ask_at_once(A, A, B)
    lab.evaluators.give_way((A, "H100"), 1)
    await lab.ask_at_once(A, A, B)
    assert len(lab.made) == 4
    lab.evaluators.give_way((A, "H100"), 8)
    lab.evaluators.give_way((A, "A100"), 1)
    await lab.ask_at_once(A, B)
    assert len(lab.made) == 5


async def let_timers_run() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_node_that_cannot_tell_is_left_alone_for_a_while(lab: Lab) -> None:
    lab.says = NotEvaluated(reason="bubblewrap is not installed", no_sandbox=True)
    assert await lab.ask() == lab.says
    assert lab.evaluators.unfit() == [A]
    lab.now += UNFIT_S
    assert lab.evaluators.unfit() == []


async def test_a_checkpoint_that_kills_its_process_says_nothing_about_the_node(lab: Lab) -> None:
    lab.says = NotEvaluated(reason="it was killed", died=True)
    await lab.ask()
    assert lab.evaluators.unfit() == []


async def test_an_actor_that_died_is_made_anew(lab: Lab) -> None:
    lab.says = ActorDiedError()
    with pytest.raises(RayError):
        await lab.ask()
    lab.says = MEASURED
    assert await lab.ask() == MEASURED
    assert (len(lab.made), lab.evaluators.unfit()) == (2, [A])


async def test_a_lost_nodes_evaluators_are_lost_with_it(lab: Lab) -> None:
    await lab.ask()
    lab.evaluators.see(NODES[1:])
    lab.evaluators.see(NODES)
    await lab.ask()
    assert len(lab.made) == 2


def test_an_evaluation_counts_as_holding_its_gpu_until_its_outcome_is_taken_in(rig: OpenRig) -> None:
    r = rig(nodes=Cluster((Node("n1", {"H100": 1}),), seats={}))
    r.go_on(trains)
    r.finish(r.only(Train))
    evaluation = r.only(Evaluate)
    assert evaluation.node == "n1"
    for _ in range(2):
        r.step()
        assert r.running == [evaluation]
    assert r.dispatcher.seats == [("n1", "H100")]
    r.finish(evaluation)
    assert r.of(Train)
    assert not r.of(Evaluate)
    assert r.dispatcher.seats == []


def test_where_evaluations_hold_no_gpu_none_is_counted(rig: OpenRig) -> None:
    r = rig(nodes=Cluster((Node("n1", {"H100": 1}),)))
    r.go_on(trains)
    r.finish(r.only(Train))
    assert r.only(Evaluate).node is None
    assert r.of(Train)
