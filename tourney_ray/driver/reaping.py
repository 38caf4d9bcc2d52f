"""Has every node that this driver sees for the first time remove the containers that nobody holds a lease for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from ray.exceptions import RayError

from tourney_ray.config import Settings
from tourney_ray.core.nodes import Node
from tourney_ray.driver import work
from tourney_ray.driver.faults import fault
from tourney_ray.driver.tasks import Leases, on_node

log = logging.getLogger(__name__)

AGAIN_S = 60.0
"""Pause before a node that could not be looked over is looked over again."""


class Reaping:
    """Looks over each node once; `begin` runs a coroutine beside the caller."""

    def __init__(
        self, settings: Settings, namespace: str, begin: Callable[[Coroutine[Any, Any, None], str], None]
    ) -> None:
        self._settings = settings
        self._leases = Leases(settings.name, namespace)
        self._begin = begin
        self._seen: set[str] = set()

    def look(self, nodes: Iterable[Node]) -> None:
        """Begin with those of the nodes that are new; without containers there is nothing to remove."""
        new = {node.node_id for node in nodes if node.gpus} - self._seen
        self._seen |= new
        for node in sorted(new) if self._settings.sandbox.kind == "docker" else ():
            self._begin(self._reap(node), f"reap/{node}")

    async def _reap(self, node: str) -> None:
        try:
            for attempt_id in await on_node(work.reap, f"reap/{node}", node).remote(self._settings, self._leases):
                log.warning("a container of %s, which holds no GPUs, was removed from %s", attempt_id, node)
        except RayError as error:
            log.warning("%s could not be looked over, in a minute it is tried again: %s", node, fault(error)[1])
            await asyncio.sleep(AGAIN_S)
            self._seen.discard(node)
