"""What Ray's answers to trainings and releases become, without Ray: a lease ends only where somebody has looked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import NodeDiedError, RayError, TaskUnschedulableError, WorkerCrashedError

from tests.builders import START
from tests.builders_training import RAN
from tests.driver.scripted import OpenRig, trains
from tests.driver.test_capacity import MACHINES
from tourney_ray.config import ClusterChoice, Sandbox, Settings
from tourney_ray.core import events as e
from tourney_ray.core.commands import Evaluate, Release, Train
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Blame, Evaluated, Failed, GpuRequirement, Trained, TrainingOutcome
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.core.state import State
from tourney_ray.driver import dispatch, surroundings, tasks, work
from tourney_ray.driver.dispatch import RETRY_S, RayDispatcher
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.outcomes import train_ended
from tourney_ray.errors import EngineDown

NODE = "0b" * 28
LOST = Failed(blame=Blame.PLATFORM, kind="engine_down", reason="process 7 of a training cannot be ended")
CRASHED = Failed(blame=Blame.MINER, kind="crashed", reason="exit status 1")
TRAINED = Trained(checkpoint="out", seconds=1.0)


class Task:
    """A function as a Ray task that answers, or raises, what the test says."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.held: list[dict[str, Any]] = []
        """What each call held in Ray."""

    def options(self, **options: Any) -> Task:
        self.held.append({name: value for name, value in options.items() if name in ("num_gpus", "resources")})
        return self

    async def remote(self, *_: Any) -> Any:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Desk:
    """A dispatcher whose tasks end as the test says, and the pauses that it made."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self._outcomes: asyncio.Queue[Any] = asyncio.Queue()
        self.settings = settings
        self._monkeypatch = monkeypatch
        self.pauses: list[float] = []
        self.progress: list[e.Fact] = []
        self.state = State(nodes={NODE: Node(NODE, {"H100": 8})})
        self.dispatcher = RayDispatcher(settings, lambda: self.state, self._outcomes.put_nowait, "tests")
        self.dispatcher.on_defect = self._outcomes.put_nowait
        self.said: Any = None
        self.warm: list[str] = []
        """Nodes whose evaluators were started."""
        self.dispatcher._evaluators = SimpleNamespace(evaluate=self._evaluate, warm_up=self.warm.append)  # type: ignore[assignment]

    async def ended(self, command: Train | Release, *answers: Any, collected: Any = None) -> tuple[e.Fact, ...]:
        """The facts that come of a command whose task gives these answers, one after the other, the last for ever."""
        function: Any = tasks.train if isinstance(command, Train) else work.release
        self.task = Task(*answers)
        self._monkeypatch.setitem(tasks.REMOTE, function, self.task)
        self._monkeypatch.setitem(tasks.REMOTE, work.collect, Task(collected))
        self._monkeypatch.setattr(dispatch.asyncio, "sleep", self._pause)
        self.dispatcher.dispatch(command)
        while True:
            outcome = await self._outcomes.get()
            assert isinstance(outcome, Outcome), outcome
            assert outcome.command_id == command.command_id
            if outcome.done:
                return outcome.facts
            self.progress += outcome.facts

    async def evaluated(self, command: Evaluate, said: Any) -> tuple[e.Fact, ...]:
        """The facts that come of an evaluation of which the evaluator says that."""
        self.said = said
        self._monkeypatch.setattr(self.dispatcher, "_secret", lambda _: "5" * 64)
        self._monkeypatch.setattr(dispatch.asyncio, "sleep", self._pause)
        self.dispatcher.dispatch(command)
        outcome = await self._outcomes.get()
        assert isinstance(outcome, Outcome), outcome
        return outcome.facts

    async def _evaluate(self, *_: Any) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def desk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(settings, monkeypatch)


@pytest.fixture
def train(rig: OpenRig) -> Train:
    """The watcher of one attempt."""
    r = rig(nodes=Cluster((Node(NODE, {"H100": 8}),)))
    r.go_on(trains)
    return r.of(Train)[0]


@pytest.fixture
def evaluation(rig: OpenRig, desk: Desk) -> Evaluate:
    """The evaluation of one checkpoint, which is due."""
    r = rig(nodes=Cluster((Node(NODE, {"H100": 8}),)))
    r.go_on(trains)
    train = r.of(Train)[0]
    r.step(Outcome(train.command_id, train_ended(train, TRAINED)))
    desk.state = r.journal.state
    return r.of(Evaluate)[0]


@pytest.fixture
def release(train: Train) -> Release:
    """The release of that attempt."""
    return Release(train.tournament_id, train.spec, train.node)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WorkerCrashedError(), "worker_lost"),
        (NodeDiedError("gone"), "node_lost"),
        (TaskUnschedulableError("no such node"), "node_lost"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_a_watcher_that_dies_says_nothing_of_its_gpus(
    desk: Desk, train: Train, error: RayError, kind: str
) -> None:
    (ended,) = await desk.ended(train, error)
    assert isinstance(ended, e.AttemptEnded)
    assert isinstance(ended.outcome, Failed)
    assert (ended.outcome.blame, ended.outcome.kind) == (Blame.PLATFORM, kind)
    assert desk.pauses == []


@pytest.mark.parametrize(
    ("outcome", "kinds"),
    [
        (TRAINED, ["LeaseEnded", "AttemptEnded"]),
        (CRASHED, ["LeaseEnded", "AttemptEnded"]),
        (LOST, ["AttemptEnded"]),
    ],
    ids=["trained", "the miner's fault", "the platform's fault"],
)
async def test_a_watcher_vouches_for_free_gpus_unless_the_platform_failed(
    desk: Desk, train: Train, outcome: TrainingOutcome, kinds: list[str]
) -> None:
    assert [fact.kind for fact in await desk.ended(train, outcome)] == kinds


async def test_another_watcher_takes_over_from_one_that_died(desk: Desk, train: Train) -> None:
    facts = await desk.ended(train, WorkerCrashedError(), WorkerCrashedError(), TRAINED)
    assert [fact.kind for fact in facts] == ["LeaseEnded", "AttemptEnded"]
    assert len(desk.task.held) == 3


async def test_where_something_trains_an_evaluator_gets_ready(desk: Desk, train: Train) -> None:
    await desk.ended(train, TRAINED)
    assert desk.warm == [NODE]


async def test_gpus_are_given_back_before_the_output_is_collected(desk: Desk, train: Train) -> None:
    (gone, ended) = await desk.ended(train, RAN, collected=TRAINED)
    assert [gone] == desk.progress
    assert isinstance(gone, e.LeaseEnded)
    assert isinstance(ended, e.AttemptEnded)
    assert ended.outcome == TRAINED


async def test_a_watcher_holds_gpus_only_while_they_are_leased(desk: Desk, train: Train) -> None:
    await desk.ended(train, TRAINED)
    spec = train.spec
    assert desk.task.held == [{}]
    lease = Lease(spec.attempt_id, spec.tournament_id, spec.task_id, spec.hotkey, 1, NODE, "H100", 1, START)
    desk.state = replace(desk.state, leases={spec.attempt_id: lease})
    await desk.ended(train, TRAINED)
    assert desk.task.held == [{"num_gpus": 1, "resources": {"H100": 1}}]


async def test_a_node_that_is_forgotten_is_a_fault_of_the_platform(desk: Desk, train: Train) -> None:
    desk.state = State()
    (ended,) = await desk.ended(train, TRAINED)
    assert isinstance(ended, e.AttemptEnded)
    assert isinstance(ended.outcome, Failed)
    assert (ended.outcome.blame, ended.outcome.kind) == (Blame.PLATFORM, "node_lost")


async def test_every_new_node_is_looked_over_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = desk.settings.model_copy(update={"sandbox": Sandbox(kind="docker")})
    dispatcher = RayDispatcher(docker, State, lambda _: None, "tests")
    reaping = Task(["task/hk/1"])
    monkeypatch.setitem(tasks.REMOTE, work.reap, reaping)
    monkeypatch.setattr(surroundings, "NODES_FRESH", timedelta(0))
    seen = {"NodeID": NODE, "NodeManagerHostname": "gpu-1", "Resources": {"H100": 8.0, "GPU": 8.0}, "Alive": True}
    monkeypatch.setattr(surroundings.ray, "nodes", lambda: [seen, seen | {"NodeID": "head", "Resources": {"CPU": 4.0}}])
    for _ in range(3):
        dispatcher.cluster()
    await asyncio.gather(*dispatcher._tasks)
    assert reaping.held == [{}]


async def test_what_is_announced_is_what_can_be_had_and_the_rest_is_a_problem(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "machines.yaml").write_text(MACHINES)
    choice = ClusterChoice(file=tmp_path / "machines.yaml")
    dispatcher = RayDispatcher(settings.model_copy(update={"cluster": choice}), State, lambda _: None, "tests")
    announced: list[Any] = []
    dispatcher._surroundings._announcing._announce = lambda **asked: announced.append(asked)
    lying = {"NodeID": NODE, "NodeManagerHostname": "gpu-1", "Resources": {"H100": 8.0, "GPU": 4.0}, "Alive": True}
    monkeypatch.setattr(surroundings.ray, "nodes", lambda: [lying])
    assert dispatcher.cluster().nodes == (Node(NODE, {"H100": 4}),)
    dispatcher.announce([*[GpuRequirement.H100_4X] * 2, GpuRequirement.A100], [])
    await asyncio.gather(*dispatcher._tasks)
    four = {"H100": 4, "GPU": 4}
    assert announced == [{"bundles": [four] * 2, "bundle_label_selectors": [{}] * 2}]
    monkeypatch.setattr(surroundings, "NODES_FRESH", timedelta(0))
    by_hand = lying | {
        "NodeID": "1f" * 28,
        "Resources": {"H100": 4.0, "GPU": 4.0},
        "Labels": {"tourney/machine": "own"},
    }
    monkeypatch.setattr(surroundings.ray, "nodes", lambda: [lying, by_hand])
    dispatcher.cluster()
    await asyncio.gather(*dispatcher._tasks)
    assert [len(asked["bundles"]) for asked in announced] == [2, 1], "one that came by hand has room for the other"
    problems = dispatcher.problems()
    assert problems.keys() == {f"node.{NODE}", "needs.1×A100"}
    assert problems[f"node.{NODE}"].startswith(f"node gpu-1 ({NODE[:8]}) claims 8×H100")
    reasons = {"a": f"{NODE} is kept for it", "b": "nothing", "c": f"{'2e' * 28}, lost"}
    assert dispatcher.named(reasons) == {**reasons, "a": f"gpu-1 ({NODE[:8]}) is kept for it"}


async def test_a_release_says_how_it_is_known(desk: Desk, release: Release) -> None:
    (ended,) = await desk.ended(release, "its processes are gone")
    assert isinstance(ended, e.LeaseEnded)
    assert (ended.attempt_id, ended.because) == (release.spec.attempt_id, "its processes are gone")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TaskUnschedulableError("no such node"), "its node is not there any more"),
        (NodeDiedError("gone"), "its node was lost"),
        (EngineDown("process 7 of a training cannot be ended"), "process 7 of a training cannot be ended"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_a_release_that_fails_frees_nothing_and_is_tried_again_after_a_pause(
    desk: Desk, release: Release, error: Exception, why: str
) -> None:
    assert await desk.ended(release, error) == ()
    assert desk.pauses == [RETRY_S]
    assert desk.dispatcher.troubles == {release.command_id: f"{why}; tried again every {RETRY_S:g} s"}
    await desk.ended(release, "its processes are gone")
    assert desk.dispatcher.troubles == {}


@pytest.mark.parametrize("died", [True, False])
async def test_an_evaluator_that_cannot_tell_says_whether_it_died(desk: Desk, evaluation: Evaluate, died: bool) -> None:
    (failed,) = await desk.evaluated(evaluation, NotEvaluated(reason="it was killed", died=died))
    assert isinstance(failed, e.EvaluationFailed)
    assert (failed.reason, failed.died) == ("it was killed", died)


async def test_a_metric_is_recorded_as_it_was_measured(desk: Desk, evaluation: Evaluate) -> None:
    (told,) = await desk.evaluated(evaluation, Evaluated(value=1.5, per_row=(1.0, 2.0)))
    assert isinstance(told, e.CheckpointEvaluated)
    assert told.result.value == 1.5


async def test_an_evaluators_actor_that_is_lost_has_not_died_at_a_checkpoint(desk: Desk, evaluation: Evaluate) -> None:
    (failed,) = await desk.evaluated(evaluation, NodeDiedError("gone"))
    assert isinstance(failed, e.EvaluationFailed)
    assert not failed.died


async def test_without_a_sandbox_evaluations_wait_and_nothing_is_recorded(desk: Desk, evaluation: Evaluate) -> None:
    why = "no stranger's checkpoint is evaluated without a sandbox: bubblewrap is not installed"
    assert await desk.evaluated(evaluation, NotEvaluated(reason=why, no_sandbox=True)) == ()
    assert desk.pauses == [RETRY_S]
    assert desk.dispatcher.troubles == {evaluation.command_id: f"{why}; tried again every {RETRY_S:g} s"}
