"""The warm evaluators of a tournament: one actor on each node that has checkpoints, beside these, and one on the head.

Guarantee: what a node cannot tell is asked of the head before it counts as a failure, unless the evaluator died of it.
Where the driver and a node are one machine, nothing is copied.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tourney_ray.config import Settings
from tourney_ray.core.beside import evaluation_node
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.models import Evaluated
from tourney_ray.core.state import State
from tourney_ray.driver.evaluator_worker import EvaluatorWorker
from tourney_ray.driver.faults import fault
from tourney_ray.driver.tasks import HEAD, ON_THE_HEAD, FromHead

log = logging.getLogger(__name__)

UNFIT_S = 60.0
"""How long nothing is evaluated on a node after its evaluator could not tell."""

IDLE_S = 30.0
"""How long an evaluator waits for work where nothing trains. A node with an actor on it is never given back by Ray's
autoscaler; a new evaluator costs ten seconds, while the node's next training runs."""


class Evaluators:
    """Makes them, asks them, and gives up those that nobody needs; `state` tells where things are."""

    def __init__(
        self, settings: Settings, state: Callable[[], State], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._state = state
        self._clock = clock
        self._cpus: dict[str, float] = {}
        """Of the live nodes; the head's under `HEAD`, as everywhere here."""
        self._actors: dict[str, Any] = {}
        self._asked: Counter[str] = Counter()
        """How much each of them has to do."""
        self._ends: dict[str, asyncio.TimerHandle] = {}
        self._unfit_until: dict[str, float] = {}

    def see(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Take note of the live nodes, as Ray tells of them; a lost one's evaluator is lost with it."""
        self._cpus = {
            HEAD if HEAD in n["Resources"] else str(n["NodeID"]): float(n["Resources"].get("CPU", 0)) for n in found
        }
        for gone in self._actors.keys() - self._cpus.keys() - {HEAD}:
            self._give_up(gone)

    def warm_up(self, node: str) -> None:
        """Start the evaluator of that node now, so that its imports are done when its first checkpoint is there."""
        where = self._where(node)
        self._actor(where)
        self._end_later(where)

    async def evaluate(self, command: Evaluate, seed: bytes, unfit: Collection[str]) -> Evaluated | NotEvaluated:
        """What the evaluator beside the checkpoint says, or the head's where that one cannot tell.

        `unfit` are nodes on which nothing should be done for now. Raises `RayError` when an actor is lost.
        """
        node = evaluation_node(command.trained_on, self._state().nodes, {*unfit, *self._unfit()})
        where = self._where(node)
        said = await self._ask(where, command, seed)
        if where == HEAD or not isinstance(said, NotEvaluated) or said.died:
            return said
        log.warning("%s is evaluated on the head, since on %s it was not: %s", command.attempt_id, where, said.reason)
        self._unfit_until[where] = self._clock() + UNFIT_S
        return await self._ask(HEAD, command, seed)

    async def _ask(self, where: str, command: Evaluate, seed: bytes) -> Evaluated | NotEvaluated:
        self._asked[where] += 1
        try:
            head = FromHead(self._settings, command.task_id)
            return await self._actor(where).evaluate.remote(command, seed, head)
        except RayError as error:
            log.warning("the evaluator on %s is lost: %s", where, fault(error)[1])
            self._unfit_until[where] = self._clock() + UNFIT_S
            if not isinstance(error, ActorUnavailableError | RayTaskError):  # else it lives, or Ray makes it anew
                self._give_up(where)
            raise
        finally:
            self._asked[where] -= 1
            self._end_later(where)

    def _where(self, node: str | None) -> str:
        """The name here of that node; the head for one that is not there."""
        return node if node in self._cpus else HEAD

    def _unfit(self) -> list[str]:
        return [node for node, until in self._unfit_until.items() if until > self._clock()]

    def _actor(self, where: str) -> Any:
        """The evaluator of that node, made where there is none."""
        if where not in self._actors:
            how: dict[str, Any] = {"resources": ON_THE_HEAD}
            if where != HEAD:
                how = {"scheduling_strategy": NodeAffinitySchedulingStrategy(where, soft=False)}
            cpus = min(self._settings.evaluation.cpus, self._cpus.get(where, 0.0))
            made = ray.remote(EvaluatorWorker).options(num_cpus=cpus, max_restarts=-1, max_task_retries=0, **how)
            self._actors[where] = made.remote(self._settings)
        return self._actors[where]

    def _end_later(self, where: str) -> None:
        """End it when it has had nothing to do for a while, and nothing trains there; the head's stays."""
        if timer := self._ends.pop(where, None):
            timer.cancel()
        if where != HEAD and where in self._actors:
            self._ends[where] = asyncio.get_running_loop().call_later(IDLE_S, self._end_if_idle, where)

    def _end_if_idle(self, where: str) -> None:
        if self._asked[where] or any(lease.node == where for lease in self._state().leases.values()):
            self._end_later(where)
        else:
            self._give_up(where)

    def _give_up(self, where: str) -> None:
        """Let go of it: Ray ends an actor that nobody knows any more."""
        self._actors.pop(where, None)
        if timer := self._ends.pop(where, None):
            timer.cancel()
