"""The work of nodes as Ray tasks, and how these tell the driver, or ask it, while they run.

Every task has `max_retries=0`: what is done again, and at whose cost, is decided by the rules and not by Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import pickle
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tourney_ray.config import Settings
from tourney_ray.core.commands import Train
from tourney_ray.core.events import ImageBuilt
from tourney_ray.core.holdings import Holdings
from tourney_ray.core.models import Failed, TrainingOutcome, TrainingSpec
from tourney_ray.driver import work
from tourney_ray.driver.faults import fault
from tourney_ray.driver.stage import Staged
from tourney_ray.driver.sweeping import sweep_node
from tourney_ray.effects.ports import Place
from tourney_ray.effects.ran import Ran
from tourney_ray.effects.retention import NodeSwept
from tourney_ray.errors import InputsMissing, PlatformFault

HEAD = "node:__internal_head__"
"""Resource that Ray gives to its head node alone."""

ON_THE_HEAD = {HEAD: 0.001}
"""Resource that ties the driver, and work on its files, to the node where they lie."""


STREAM = {"num_returns": "streaming", "_generator_backpressure_num_objects": 4}
"""A task that gives one piece after the other, at most so many ahead of who takes them."""


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
            _found(self.driver, self.namespace).progress.remote(self.command_id, gpu_indices, image_id)

    def said(self, tail: str) -> None:
        """The end of its log."""
        with contextlib.suppress(ValueError):
            _found(self.driver, self.namespace).said.remote(self.command_id, tail)


@functools.lru_cache
def _found(driver: str, namespace: str) -> Any:
    """The driver, looked up once: this process works for one job only, and a driver that restarts stays the same.

    Raises `ValueError` when it is not there.
    """
    return ray.get_actor(driver, namespace)


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


def stage(settings: Settings, spec: TrainingSpec, known: ImageBuilt | None, holders: Sequence[str]) -> Staged | Failed:
    """In the worker: `holders` are nodes that may have the image `known`."""
    return work.stage(settings, spec, known, RayCarrier(settings, spec, holders))


def bring(settings: Settings, record: str, node: str) -> None:
    """In the worker: have in the operator's store what an attempt left on that node."""
    sending = on_node(work.sent_objects, f"send/{record[7:19]}", node, **STREAM)
    what = f"what its attempt left cannot be brought from {node}"
    work.bring(settings, record, lambda: _arriving(sending, what, settings, record))


@dataclass(frozen=True, slots=True)
class RayCarrier:
    """Brings images and files to the worker that it is used in, as streams of Ray objects. A `Carrier`."""

    settings: Settings
    spec: TrainingSpec
    holders: Sequence[str]
    """Nodes to ask for the image, in this order."""

    def image(self, image_id: str) -> Iterator[bytes] | None:
        """From the first node that has it; None where all of them are gone, or it is gone from them."""
        for node in self.holders:
            sending = on_node(work.sent_image, f"send/{image_id[7:19]}", node, **STREAM)
            pieces = _arriving(sending, f"its image cannot be brought from {node}", self.settings, image_id)
            with contextlib.suppress(InputsMissing):
                return chain([next(pieces)], pieces)
        return None

    def files(self, paths: Sequence[str]) -> Iterator[bytes]:
        """From the head."""
        sending = on_head(work.sent_files, f"send/{self.spec.task_id}", **STREAM)
        return _arriving(sending, "its files cannot be brought from the head", self.settings, self.spec, list(paths))


@dataclass(frozen=True, slots=True)
class FromHead:
    """Brings what the head has to the evaluator that it is used in; pickled into the call. A `Sender`."""

    settings: Settings
    """The head's."""
    task_id: str

    def files(self, paths: Sequence[str]) -> Iterator[bytes]:
        """These models and test sets."""
        sending = on_head(work.sent_data, f"send/{self.task_id}", **STREAM)
        return _arriving(sending, "the task's data cannot be brought from the head", self.settings, list(paths))

    def objects(self, record: str) -> Iterator[bytes]:
        """What the attempt with that record left."""
        sending = on_head(work.sent_objects, f"send/{record[7:19]}", **STREAM)
        return _arriving(sending, "the checkpoint cannot be brought from the head", self.settings, record)


def _arriving(sending: Any, failed: str, *arguments: Any) -> Iterator[bytes]:
    """What a streaming task gives; raises `InputsMissing` where that is not there, or its node is not."""
    try:
        for piece in sending.remote(*arguments):
            yield ray.get(piece)
    except RayError as error:
        kind, reason = fault(error)
        missing = kind in ("inputs_missing", "node_lost")
        raise (InputsMissing if missing else PlatformFault)(f"{failed}: {reason}") from error


class Packed:
    """A function as a Ray task whose arguments travel as one piece, pickled as all of Python's own are.

    Ray's pickler also takes functions and classes that nobody can import, and three times as long for our records.
    """

    def __init__(self, task: Any) -> None:
        self._task = task

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Packed:
        """The function, a generator or not."""

        def call(packed: bytes) -> Any:
            return function(*pickle.loads(packed))

        def pieces(packed: bytes) -> Iterator[Any]:
            yield from function(*pickle.loads(packed))

        task = pieces if inspect.isgeneratorfunction(function) else call
        task.__name__, task.__qualname__ = function.__name__, function.__qualname__  # as Ray shows it
        return cls(ray.remote(task))

    def options(self, **how: Any) -> Packed:
        """The same task, run in that way."""
        return Packed(self._task.options(**how))

    def remote(self, *arguments: Any) -> Any:
        """What the task will give, as Ray's own `remote` has it."""
        return self._task.remote(pickle.dumps(arguments))


REMOTE: dict[Callable[..., Any], Any] = {
    function: Packed.of(function)
    for function in (
        *(work.vet_repository, work.ask_and_vet, work.prepare, work.sent_data, work.sent_files),
        *(work.sent_image, work.collect, work.sent_objects, work.reap, work.release, bring, stage, train, sweep_node),
    )
}
"""Each function as a Ray task, made once: a new one would be shipped to the workers at every call."""


def on_node(function: Callable[..., Any], name: str, node: str, **how: Any) -> Any:
    """The task on that very node, or nowhere."""
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return REMOTE[function].options(name=name, num_cpus=0, max_retries=0, scheduling_strategy=where, **how)


def on_head(function: Callable[..., Any], name: str, **how: Any) -> Any:
    """The task where the driver's files lie."""
    return REMOTE[function].options(name=name, num_cpus=0, max_retries=0, resources=ON_THE_HEAD, **how)


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
