"""Evaluators that hold a GPU each: made where the plan seats an evaluation, and kept warm while nobody wants the GPU.

Guarantee: one that is asked nothing gives way to whatever starts on its node.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tourney_ray.config import Settings
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.leases import Seat
from tourney_ray.core.models import Evaluated
from tourney_ray.driver.evaluator_worker import EvaluatorWorker
from tourney_ray.driver.evaluators import UNFIT_S
from tourney_ray.driver.faults import fault
from tourney_ray.driver.gpu_claims import Gpu
from tourney_ray.driver.tasks import FromHead

log = logging.getLogger(__name__)

IDLE_S = 30.0
"""How long an evaluator waits for the plan to seat another evaluation there, as long as nobody else wants its GPU."""


class GpuEvaluators:
    """Makes them, asks them, and ends them; which GPU is free for whom, the plan knows."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._gpus: dict[Seat, int] = {}
        """How many GPUs of a type each live node has."""
        self._idle = defaultdict[Seat, dict[Any, asyncio.TimerHandle]](dict)
        """Evaluators that are asked nothing, and when they are given up."""
        self._unfit_until: dict[str, float] = {}

    def see(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Take note of the live nodes, as Ray tells of them; a lost one's evaluators are lost with it."""
        self._gpus = {
            (str(node["NodeID"]), kind): int(count) for node in found for kind, count in node["Resources"].items()
        }
        for gone in self._idle.keys() - self._gpus.keys():
            self._let_go(gone, list(self._idle[gone]))
            del self._idle[gone]

    def unfit(self) -> list[str]:
        """Nodes on which nothing is evaluated for now."""
        return [node for node, until in self._unfit_until.items() if until > self._clock()]

    def give_way(self, seat: Seat, gpus: int) -> None:
        """End as many idle evaluators on that node as there may have to be for a training that starts now."""
        self._let_go(seat, list(self._idle[seat])[:gpus])

    async def evaluate(self, command: Evaluate, seed: bytes) -> Evaluated | NotEvaluated:
        """What an evaluator on the GPU that the plan gave to the command says; raises `RayError` when it is lost."""
        seat = command.node or "", command.gpu_type
        evaluator = next(iter(self._idle[seat]), None) or self._made(seat)
        self._let_go(seat, [evaluator])
        try:
            head = FromHead(self._settings, command.task_id)
            said: Evaluated | NotEvaluated = await evaluator.evaluate.remote(command, seed, head)
        except RayError as error:
            log.warning("the evaluator on %s is lost: %s", seat[0], fault(error)[1])
            self._doubt(seat)
            raise
        later = asyncio.get_running_loop().call_later(IDLE_S, self._let_go, seat, [evaluator])
        self._idle[seat][evaluator] = later
        if isinstance(said, NotEvaluated) and not said.died:
            self._doubt(seat)
        return said

    def _made(self, seat: Seat) -> Any:
        node, kind = seat
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        held = {"num_cpus": 0, "num_gpus": 1, "resources": {kind: 1}}
        actor = ray.remote(EvaluatorWorker).options(max_restarts=0, scheduling_strategy=where, **held)
        return actor.remote(self._settings, Gpu(node, kind, self._gpus.get(seat, 1)))

    def _let_go(self, seat: Seat, evaluators: Iterable[Any]) -> None:
        """Count them among the idle no more: Ray ends an actor that nobody knows, a cancelled timer included."""
        for evaluator in evaluators:
            if later := self._idle[seat].pop(evaluator, None):
                later.cancel()

    def _doubt(self, seat: Seat) -> None:
        self._unfit_until[seat[0]] = self._clock() + UNFIT_S
