"""The driver on a real cluster, with its journal on the disk, whose trainings do nothing.

Everything else is what it is in a tournament: the actor, its loop, its dispatcher, tasks pinned to nodes with their
GPUs, and the word that reaches the driver from them. Import it only once Ray's environment is set.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import ray

from lab.group_round import evaluated
from tourney_ray.config import ClusterChoice, Registry, Sandbox, Settings
from tourney_ray.core import events as e
from tourney_ray.core.chain import Entry
from tourney_ray.core.commands import Evaluate, Train
from tourney_ray.core.models import Trained
from tourney_ray.driver import tasks
from tourney_ray.driver.actor import NAMESPACE, Driver
from tourney_ray.driver.client import DriverClient
from tourney_ray.driver.dispatch import RayDispatcher
from tourney_ray.driver.evaluators import Evaluators
from tourney_ray.store.journal import Journal


def hold(settings: Settings, command: Train, gpus: int, reporter: tasks.Reporter) -> Trained:
    """In the worker, in place of the watcher: say that it runs, and be done."""
    reporter.running((), "")
    return Trained(checkpoint=f"checkpoints/{command.spec.attempt_id}", seconds=0.0)


def hold_on(settings: Settings, command: Train, gpus: int, reporter: tasks.Reporter) -> Trained:
    """The same, for as long as the training's limit: give the rules a small `hours_scale`."""
    reporter.running((), "")
    time.sleep(command.spec.hours_to_complete * 3600)
    return Trained(checkpoint=f"checkpoints/{command.spec.attempt_id}", seconds=0.0)


tasks.REMOTE |= {task: tasks.Packed.of(task) for task in (hold, hold_on)}


class _Cold(Evaluators):
    """Makes nothing ready: there is nothing to evaluate."""

    def warm_up(self, node: str) -> None:
        """Nothing is started."""


class IdleDispatcher(RayDispatcher):
    """Starts trainings that do nothing; nothing of them is evaluated."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._evaluators = _Cold(*given[:2])

    watcher = staticmethod(hold)

    def _watcher(self, command: Train) -> Any:
        return tasks.on_node(self.watcher, command.command_id, command.node, **self._held(command))

    async def _evaluate(self, command: Evaluate) -> tuple[e.Fact, ...]:
        return await asyncio.get_running_loop().create_future()


class IdleDriver(Driver):
    """The driver with that dispatcher."""

    dispatchers = IdleDispatcher


class QuickDispatcher(IdleDispatcher):
    """Has trainings last as long as they may, and tells a metric of every checkpoint at once."""

    watcher = staticmethod(hold_on)

    async def _evaluate(self, command: Evaluate) -> tuple[e.Fact, ...]:
        return (evaluated(command),)


class QuickDriver(Driver):
    """The driver with that dispatcher: a tournament takes seconds."""

    dispatchers = QuickDispatcher


def settings_in(folder: Path, name: str, max_trainers: int | None = None) -> Settings:
    """Of a driver whose tournament is in its journal already: nobody is asked, nothing is fetched."""
    return Settings(
        name=name,
        state=folder,
        registry=Registry(miners=folder / "miners.json"),
        sandbox=Sandbox(kind="process"),
        cluster=ClusterChoice(max_trainers=max_trainers),
    )


def record(settings: Settings, facts: Sequence[e.Fact], at: datetime) -> None:
    """What has happened before the driver starts."""
    journal = Journal.open(settings.state)
    journal.append(facts, at)
    journal.close()


def started(settings: Settings, driver: type[Driver] = IdleDriver) -> DriverClient:
    """A driver of that class, which ends with this process."""
    actor: Any = ray.remote(driver)
    options = {"num_cpus": 0, "resources": tasks.ON_THE_HEAD, "max_concurrency": 1000}
    handle = actor.options(name=settings.name, namespace=NAMESPACE, **options).remote(settings)
    return DriverClient(handle, settings.name)


def followed(driver: DriverClient, enough: Callable[[Entry], bool], times: int, patience_s: float) -> list[Entry]:
    """What the driver recorded until that many entries were such; raises `SystemExit` when it takes too long."""
    until, seen, found = time.monotonic() + patience_s, list[Entry](), 0
    for update in driver.follow():
        seen += update.entries
        found += sum(map(enough, update.entries))
        if found >= times:
            return seen
        if update.halted or time.monotonic() > until:
            raise SystemExit(f"{found} of {times} came: {update.halted or update.waits}")
    return seen
