"""Which evaluator is asked, how it is made, and when it is given up; the actors say what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

from tests.builders import START
from tests.driver.scripted import OpenRig, trains
from tourney_ray.config import Evaluation, Settings
from tourney_ray.core.commands import Evaluate, Train
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Evaluated, Trained
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.core.state import State
from tourney_ray.driver import evaluators as module
from tourney_ray.driver.evaluators import UNFIT_S, Evaluators
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.outcomes import train_ended
from tourney_ray.driver.tasks import HEAD

NODE, OTHER = "0b" * 28, "0c" * 28
HEADS_OWN = "0a" * 28
HEAD_NODE = {"NodeID": HEADS_OWN, "Resources": {HEAD: 1.0, "CPU": 2.0}}
NODES = [HEAD_NODE, *({"NodeID": node, "Resources": {"H100": 8.0, "CPU": 4.0}} for node in (NODE, OTHER))]
MEASURED = Evaluated(value=1.5, per_row=(1.0, 2.0))
SEED = bytes(32)


class Lab:
    """Evaluators whose actors are made of air."""

    def __init__(self, settings: Settings, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.state = state
        self.made: list[str] = []
        self.cpus: dict[str, float] = {}
        self.asked: list[str] = []
        self.says: dict[str, Any] = {}
        """By node, if not the metric; an error is raised."""
        monkeypatch.setattr(module.ray, "remote", lambda _: self)
        self.evaluators = Evaluators(settings, lambda: self.state, lambda: self.now)
        self.evaluators.see(NODES)

    def options(self, **how: Any) -> _Made:
        assert (how["max_restarts"], how["max_task_retries"]) == (-1, 0)
        node = how["scheduling_strategy"].node_id if "scheduling_strategy" in how else "head"
        assert node != "head" or HEAD in how["resources"]
        self.cpus[node] = how["num_cpus"]
        return _Made(self, node)


class _Made:
    """An actor that is to be made, then one that is asked."""

    def __init__(self, lab: Lab, node: str) -> None:
        self._lab = lab
        self._node = node
        self.evaluate: Any = None

    def remote(self, _: Settings) -> _Made:
        self._lab.made.append(self._node)
        actor = _Made(self._lab, self._node)
        actor.evaluate = type("Method", (), {"remote": staticmethod(actor._answer)})
        return actor

    async def _answer(self, *_: Any) -> Any:
        self._lab.asked.append(self._node)
        said = self._lab.says.get(self._node, MEASURED)
        if isinstance(said, Exception):
            raise said
        return said


@pytest.fixture
def due(rig: OpenRig) -> tuple[State, Evaluate]:
    """A state in which a checkpoint was trained on `NODE`, and its evaluation."""
    r = rig(nodes=Cluster((Node(NODE, {"H100": 8}),)))
    r.go_on(trains)
    train = r.of(Train)[0]
    r.step(Outcome(train.command_id, train_ended(train, Trained(checkpoint="out", seconds=1.0))))
    return r.journal.state, r.of(Evaluate)[0]


@pytest.fixture
def lab(settings: Settings, due: tuple[State, Evaluate], monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(settings, due[0], monkeypatch)


Ask = Callable[..., Any]


@pytest.fixture
def ask(lab: Lab, due: tuple[State, Evaluate]) -> Ask:
    """The metric of the checkpoint that is due, or why there is none."""
    return lambda *unfit: lab.evaluators.evaluate(due[1], SEED, unfit)


async def test_a_checkpoint_is_read_where_it_lies_by_an_evaluator_that_stays_warm(lab: Lab, ask: Ask) -> None:
    lab.evaluators.warm_up(NODE)
    assert [await ask() for _ in range(3)] == [MEASURED] * 3
    assert (lab.made, lab.asked) == ([NODE], [NODE] * 3)
    assert lab.cpus == {NODE: 0.0}


async def test_each_node_has_its_own_and_the_heads_is_the_drivers(lab: Lab) -> None:
    for node in (NODE, OTHER, HEADS_OWN, "never seen", NODE):
        lab.evaluators.warm_up(node)
    assert lab.made == [NODE, OTHER, "head"]


async def test_a_node_that_can_do_nothing_for_now_is_not_asked(lab: Lab, ask: Ask) -> None:
    assert await ask(NODE) == MEASURED
    assert lab.asked == ["head"]


@pytest.mark.parametrize("no_sandbox", [True, False])
async def test_what_a_node_cannot_tell_the_head_is_asked_for_a_while(lab: Lab, ask: Ask, no_sandbox: bool) -> None:
    lab.says[NODE] = NotEvaluated(reason="bubblewrap is not installed", no_sandbox=no_sandbox)
    assert [await ask() for _ in range(2)] == [MEASURED] * 2
    assert lab.asked == [NODE, "head", "head"]
    lab.now += UNFIT_S
    del lab.says[NODE]
    assert await ask() == MEASURED
    assert lab.asked[3:] == [NODE]


async def test_what_neither_can_tell_is_told_by_the_head(lab: Lab, ask: Ask) -> None:
    lab.says = {NODE: NotEvaluated(reason="its disk is broken"), "head": NotEvaluated(reason="no rows")}
    assert await ask() == lab.says["head"]


async def test_a_death_at_a_checkpoint_is_told_and_not_repeated_on_the_head(lab: Lab, ask: Ask) -> None:
    lab.says[NODE] = NotEvaluated(reason="it was killed", died=True)
    assert await ask() == lab.says[NODE]
    assert lab.asked == [NODE]


@pytest.mark.parametrize(
    ("error", "made"),
    [(ActorDiedError(), [NODE, "head", NODE]), (ActorUnavailableError("no answer", None), [NODE, "head"])],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_an_actor_that_died_is_made_anew_and_one_that_does_not_answer_is_not(
    lab: Lab, ask: Ask, error: RayError, made: list[str]
) -> None:
    lab.says[NODE] = error
    with pytest.raises(type(error)):
        await ask()
    del lab.says[NODE]
    await ask()
    lab.now += UNFIT_S
    await ask()
    assert lab.asked == [NODE, "head", NODE]
    assert lab.made == made


async def test_a_lost_nodes_evaluator_is_lost_with_it(lab: Lab, ask: Ask) -> None:
    await ask()
    lab.evaluators.see([HEAD_NODE])
    await ask()
    lab.evaluators.see(NODES)
    await ask()
    assert lab.asked == [NODE, "head", NODE]
    assert lab.made == [NODE, "head", NODE]


async def test_it_ends_when_its_node_has_nothing_to_do_and_the_heads_never(
    lab: Lab, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    lease = Lease("a", "t", "task", "hk", 1, NODE, "H100", 1, START)
    lab.state = replace(lab.state, leases={"a": lease})
    for _ in range(2):
        await ask()
        await _let_timers_run()
    assert lab.made == [NODE]
    lab.state = replace(lab.state, leases={})
    await _let_timers_run()
    await ask()
    assert lab.made == [NODE, NODE]
    for _ in range(2):
        await ask(NODE)
        await _let_timers_run()
    assert lab.made == [NODE, NODE, "head"]


async def _let_timers_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_it_holds_the_cpus_of_the_settings_but_no_more_than_its_node_has(
    settings: Settings, due: tuple[State, Evaluate], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(settings.model_copy(update={"evaluation": Evaluation(cpus=3.0)}), due[0], monkeypatch)
    for node in (NODE, HEADS_OWN):
        lab.evaluators.warm_up(node)
    assert lab.cpus == {NODE: 3.0, "head": 2.0}
