"""A tournament on an engine that cannot be used: it waits, says why, fails nobody, and goes on when that is mended.

The driver's loop on a journal, its dispatcher, and staging on a real engine; what Ray would carry to a node is called.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.docker.bench import ROWS
from tests.docker.test_staging import Neighbours, settings
from tests.docker.troubled import TOO_OLD, answering, as_nobody
from tests.driver.scripted import Rig, kinds, prepared, trainings
from tourney_ray.config import Settings
from tourney_ray.core import events as e
from tourney_ray.core.commands import Command, PrepareTask, Stage, Train
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import TrainingSpec, TrainingStatus
from tourney_ray.core.nodes import Node
from tourney_ray.driver import dispatch, tasks, work
from tourney_ray.driver.dispatch import RayDispatcher
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.stage import tree_path
from tourney_ray.effects import contract
from tourney_ray.effects.engine import builder
from tourney_ray.effects.engine.connection import Engine
from tourney_ray.store.journal import Journal

NODE = Node("0b" * 28, {"H100": 8})
SLOW = "FROM tourney/tiny-base\nRUN sleep 1\nCOPY train.py /workspace/train.py\n"
Trouble = Callable[[Settings, pytest.MonkeyPatch], AbstractContextManager[Settings]]
"""A context in which staging with the settings that it gives meets that trouble."""


class BoxedRig(Rig):
    """A tournament whose tasks are made of files that are there, and whose entrants are nobody else's."""

    def _facts(self, command: Command) -> tuple[e.Fact, ...]:
        if isinstance(command, PrepareTask):
            fact = prepared(command)
            given = {"dataset_sha256": hashlib.sha256(ROWS.encode()).hexdigest()}
            return (fact.model_copy(update={"data": fact.data.model_copy(update=given)}),)
        return tuple(map(_of_their_own, super()._facts(command)))


def _of_their_own(fact: e.Fact) -> e.Fact:
    """Answers with trees that no engine has seen before."""
    if not isinstance(fact, e.RegistrationPassed):
        return fact
    answers = [answer.model_copy(update={"tree_hash": secrets.token_hex(20)}) for answer in fact.answers]
    return fact.model_copy(update={"answers": tuple(answers)})


class Held:
    """A tournament that is held as far as its first trainings, on one node."""

    def __init__(self, settings: Settings, journal: Journal, patch: pytest.MonkeyPatch) -> None:
        self.settings = settings
        self.journal = journal
        self.trouble: Callable[[], AbstractContextManager[Settings]] = lambda: nullcontext(settings)
        self._said: asyncio.Queue[Outcome | BaseException] = asyncio.Queue()
        self._dispatcher = RayDispatcher(settings, lambda: journal.state, self._said.put_nowait, "tests")
        self._dispatcher.on_defect = self._said.put_nowait
        patch.setitem(tasks.REMOTE, tasks.stage, self)
        patch.setattr(dispatch, "RETRY_S", 0.0)
        self.rig = BoxedRig(journal, nodes=Cluster((NODE,), staged={}))
        self.rig.go_on(until=lambda rig: bool(rig.of(Stage)))
        self._due = self.rig.of(Stage)[:1]  # the others take their time
        self._give(self._due[0].spec)

    def options(self, **_: Any) -> Held:
        """The task of staging, on the node."""
        return self

    async def remote(self, _: Settings, spec: TrainingSpec, known: e.ImageBuilt | None, __: object) -> Any:
        with self.trouble() as met:
            return work.stage(met, spec, known, Neighbours(head=self.settings, spec=spec))

    async def stage(self) -> None:
        """What is to be staged first is tried once, and the loop takes what came of it."""
        self._dispatcher.dispatch(self._due.pop(0))
        outcome = await self._said.get()
        assert isinstance(outcome, Outcome), outcome
        before = len(self.rig.dispatcher.dispatched)
        self.step(outcome)
        self._due += [one for one in self.rig.dispatcher.dispatched[before:] if isinstance(one, Stage)]

    def step(self, *outcomes: Outcome) -> None:
        """The loop steps, with what its dispatcher knows of the node."""
        stagings = self._dispatcher._stagings
        self.rig.dispatcher.nodes = Cluster((NODE,), staged=stagings.there(), unfit=stagings.unfit())
        self.rig.step(*outcomes)

    def awaited(self) -> list[str]:
        """For what things wait, as people are shown it."""
        wants, troubles = self.rig.loop.wants, self._dispatcher.troubles
        return list((self.rig.loop.waits | {name: why for name, why in troubles.items() if wants(name)}).values())

    def _give(self, spec: TrainingSpec) -> None:
        tree, data = self.settings.state / tree_path(spec.tree_hash), self.settings.data
        for path, content in {
            tree / contract.dockerfile_at("text"): SLOW,
            tree / "train.py": f"print({spec.hotkey!r})\n",
            data / spec.data.model_path / "config.json": "{}",
            data / spec.data.dataset_path: ROWS,
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


@pytest.fixture
def held(engine: Engine, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Held]:
    del tiny
    journal = Journal.open(tmp_path / "journal")
    yield Held(settings(tmp_path, engine), journal, monkeypatch)
    journal.close()


def at(settings: Settings, host: str) -> Settings:
    """The same node with another engine."""
    return settings.model_copy(update={"sandbox": settings.sandbox.model_copy(update={"host": host})})


@contextmanager
def absent(settings: Settings, _: pytest.MonkeyPatch) -> Generator[Settings]:
    yield at(settings, f"unix://{settings.state}/nobody.sock")


@contextmanager
def not_permitted(settings: Settings, _: pytest.MonkeyPatch) -> Generator[Settings]:
    with as_nobody():
        yield settings


@contextmanager
def too_old(settings: Settings, _: pytest.MonkeyPatch) -> Generator[Settings]:
    with answering(TOO_OLD) as host:
        yield at(settings, host)


@contextmanager
def out_of_disk(settings: Settings, patch: pytest.MonkeyPatch) -> Generator[Settings]:
    with patch.context() as full:
        full.setattr(builder, "RESERVE_BYTES", 2**50)
        yield settings


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (absent, "no engine listens there"),
        (not_permitted, "this user may not use it"),
        (too_old, "engine 19.03.5 speaks API 1.40, which is too old"),
        (out_of_disk, "the engine's disk has less than"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_tournament_waits_says_why_fails_nobody_and_goes_on(
    held: Held, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, reason: str
) -> None:
    sound, held.trouble = held.trouble, lambda: trouble(held.settings, monkeypatch)
    for _ in range(2):
        await held.stage()
        assert any(reason in why for why in held.awaited()), held.awaited()
    assert {(t.status, t.attempts, t.trouble) for t in trainings(held.journal)} == {(TrainingStatus.PENDING, (), "")}
    assert not {"AttemptStarted", "StagingFailed", "AttemptEnded"} & set(kinds(held.journal))
    held.trouble = sound
    await held.stage()
    held.step()
    assert "ImageBuilt" in kinds(held.journal)
    assert not any(reason in why for why in held.awaited())
    (first,) = held.rig.of(Train)[:1]
    assert first.spec.image_id.startswith("sha256:")
    assert first.spec.epoch == 1
