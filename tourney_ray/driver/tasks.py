"""The work of nodes as Ray tasks, and how these tell the driver, or ask it, while they run.

Every task has `max_retries=0`: what is done again, and at whose cost, is decided by the rules and not by Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tourney_ray.config import Settings
from tourney_ray.core.commands import Train
from tourney_ray.core.holdings import Holdings
from tourney_ray.core.models import TrainingOutcome
from tourney_ray.driver import work
from tourney_ray.driver.faults import fault
from tourney_ray.driver.sweeping import sweep_node
from tourney_ray.effects.ports import Place
from tourney_ray.effects.ran import Ran
from tourney_ray.effects.retention import NodeSwept

HEAD = "node:__internal_head__"
ON_THE_HEAD = {HEAD: 0.001}
"""Resource that ties the driver, and work on its files, to the node where they lie."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Tells the driver, by its name, how an attempt goes on; pickled into the task. The `News` of its trainer.

    It sends and does not wait: the training goes on whether or not a driver is there to listen.
    """

    driver: str
    namespace: str
    command_id: str

    def running(self, gpu_indices: tuple[int, ...], image_id: str) -> None:
        """Its code runs."""
        with contextlib.suppress(ValueError):
            ray.get_actor(self.driver, self.namespace).progress.remote(self.command_id, gpu_indices, image_id)

    def said(self, tail: str) -> None:
        """The end of its log."""
        with contextlib.suppress(ValueError):
            ray.get_actor(self.driver, self.namespace).said.remote(self.command_id, tail)


@dataclass(frozen=True, slots=True)
class Leases:
    """Asks the driver, by its name, which attempts hold GPUs; pickled into the task."""

    driver: str
    namespace: str

    def __call__(self, attempt_ids: Collection[str]) -> Collection[str]:
        """Those that do, at this moment."""
        return ray.get(ray.get_actor(self.driver, self.namespace).leased.remote(list(attempt_ids)))


@dataclass(frozen=True, slots=True)
class Needs:
    """Asks the driver, by its name, what nobody may remove; pickled into the task."""

    driver: str
    namespace: str

    def __call__(self) -> Holdings:
        """What that is at this moment."""
        driver: Any = ray.get_actor(self.driver, self.namespace)
        return cast("Holdings", ray.get(driver.holdings.remote()))


def train(settings: Settings, command: Train, gpus: int, reporter: Reporter) -> TrainingOutcome | Ran:
    """In the worker: `gpus` are all of the node's, of the training's type."""
    indices = tuple(int(index) for index in ray.get_gpu_ids())
    place = Place(driver=settings.name, node=command.node, gpus=gpus, indices=indices)
    return work.train(settings, command.spec, place, reporter)


REMOTE: dict[Callable[..., Any], Any] = {
    function: ray.remote(function)
    for function in (
        work.vet_repository,
        work.ask_and_vet,
        work.prepare,
        work.collect,
        work.reap,
        work.release,
        sweep_node,
        train,
    )
}
"""Each function as a Ray task, made once: a new one would be shipped to the workers at every call."""


def on_node(function: Callable[..., Any], name: str, node: str, **held: Any) -> Any:
    """The task on that very node, or nowhere."""
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return REMOTE[function].options(name=name, num_cpus=0, max_retries=0, scheduling_strategy=where, **held)


def on_head(function: Callable[..., Any], name: str) -> Any:
    """The task where the driver's files lie."""
    return REMOTE[function].options(name=name, num_cpus=0, max_retries=0, resources=ON_THE_HEAD)


async def sweep_nodes(settings: Settings, namespace: str, dry_run: bool) -> list[NodeSwept]:
    """What came of bringing every node of the cluster below its limits, all at once; a node's trouble is told as such.

    A folder of artifacts is swept on each node, in case it is the node's own; what lies elsewhere, on the head alone.
    """
    nodes = {str(n["NodeID"]): HEAD in n["Resources"] for n in ray.nodes() if n["Alive"]}
    everywhere, needs = "://" not in settings.artifacts_at, Needs(settings.name, namespace)
    sweeps = [_swept(node, settings, needs, everywhere or is_head, dry_run) for node, is_head in sorted(nodes.items())]
    return list(await asyncio.gather(*sweeps))


async def _swept(node: str, settings: Settings, needs: Needs, with_artifacts: bool, dry_run: bool) -> NodeSwept:
    try:
        task = on_node(sweep_node, f"gc/{node}", node)
        return NodeSwept(node=node, swept=await task.remote(settings, needs, with_artifacts, dry_run))
    except RayError as error:
        return NodeSwept(node=node, trouble=fault(error)[1])
