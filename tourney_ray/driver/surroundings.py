"""What Ray shows of the cluster around the driver, and what it is told of the driver's needs.

Guarantee: what is shown is at most half a second old; no call of it waits for the autoscaler.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any

import ray

from tourney_ray.config import Settings
from tourney_ray.core.leases import Seat
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.driver import work
from tourney_ray.driver.announcing import Announcing
from tourney_ray.driver.capacity import Outlook, Seen, cluster_file, seen_nodes
from tourney_ray.driver.tasks import HEAD

NODES_FRESH = timedelta(seconds=0.5)
"""How old the list of nodes may be."""

NODE_ID = re.compile(r"\b[0-9a-f]{56}\b")
"""What Ray calls a node."""


class Surroundings:
    """The nodes that live, those that could be added, and the demand that they are announced for."""

    def __init__(
        self,
        settings: Settings,
        leases: Callable[[], Collection[Lease]],
        unfit: Callable[[], Collection[str]],
        begin: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self._leases, self._unfit = leases, unfit
        self._announcing = Announcing(begin)
        self._outlook = Outlook(cluster_file(settings))
        self._demand: Sequence[GpuRequirement] | None = None
        """None before anybody has told of any."""
        self._seats: Sequence[Seat] = ()
        self._seen = Seen()
        self._at = work.utc_now() - 2 * NODES_FRESH
        self._hosts: dict[str, str] = {}
        """By node, those that are gone as well."""
        self.elsewhere: frozenset[str] = frozenset()
        """Other nodes than that of the driver's files."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The live nodes with their GPUs, as of the last look."""
        return self._seen.nodes

    def look(self) -> Sequence[dict[str, Any]] | None:
        """What Ray says of the live nodes; None while the last look is fresh."""
        now = work.utc_now()
        if now - self._at < NODES_FRESH:
            return None
        found = [node for node in ray.nodes() if node["Alive"]]
        self._seen, self._at = seen_nodes(found), now
        self.elsewhere = frozenset(node["NodeID"] for node in found if HEAD not in node["Resources"])
        self._hosts |= {node["NodeID"]: node["NodeManagerHostname"] for node in found}
        if self._demand is not None:
            self._ask(self._demand)
        return found

    def launchable(self) -> tuple[tuple[str, int], ...] | None:
        """GPU type and count of nodes that may still be added; None where nobody knows of any."""
        return self._outlook.still(self._seen, work.utc_now())

    def announce(self, demand: Sequence[GpuRequirement], seats: Sequence[Seat]) -> None:
        """Tell Ray's autoscaler, soon, what runs or waits, as far as it can meet that; where evaluations hold GPUs."""
        self._demand, self._seats = demand, seats
        self._ask(demand)

    def _ask(self, demand: Sequence[GpuRequirement]) -> None:
        """For what is needed, by what is there and what runs where by now."""
        held = [(lease.node, lease.gpu_type, lease.gpus) for lease in self._leases()]
        held += [(node, gpu_type, 1) for node, gpu_type in self._seats]
        self._announcing.tell(self._outlook.ask(demand, self._seen, held, self._unfit(), work.utc_now()))

    async def withdraw(self) -> None:
        """Ask the autoscaler for nothing any more; returns once it has been told."""
        await self._announcing.withdraw()

    def problems(self) -> dict[str, str]:
        """What no waiting will mend, by node or need: machines that claim too much, and those that nobody can start.

        And the autoscaler, while it hears of nothing.
        """
        lies = self.named({f"node.{node}": why for node, why in self._seen.lies.items()})
        if self._announcing.trouble:
            lies["autoscaler"] = self._announcing.trouble
        return lies | self._outlook.shortages(self._demand or (), self._seen.nodes)

    def named(self, reasons: Mapping[str, str]) -> dict[str, str]:
        """The same reasons with the host of each node that they name, and the beginning of its id."""
        spelled = {why: NODE_ID.sub(lambda found: self._host(found[0]), why) for why in set(reasons.values())}
        return {what: spelled[why] for what, why in reasons.items()}

    def _host(self, node: str) -> str:
        return f"{self._hosts[node]} ({node[:8]})" if node in self._hosts else node
