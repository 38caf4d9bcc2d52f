"""What is put on which node before GPUs are held there, and which trainings start (RULES §6).

Guarantee: a training starts only where its image and its data lie; an image is built in one place at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tourney_ray.core.leases import Cluster, free_gpus
from tourney_ray.core.placement import Placed, Request, reason_to_wait, urgency
from tourney_ray.core.state import State

STAGINGS_PER_NODE = 2
"""How many trainings are staged on one node at a time."""


def place_staged(requests: Sequence[Request], state: State, cluster: Cluster) -> Placed:
    """The most urgent first: each starts on the fullest node that fits and holds what it needs.

    Where it fits but lacks something, room is kept for it and it is staged there; what fits nowhere is staged ahead, on
    the node with the fewest others. Every request that does not start has its reason to wait.
    """
    desk = _Desk(requests, state, cluster)
    for request in sorted(requests, key=urgency):
        desk.admit(request)
    return desk.placed


class _Desk:
    """What room there is, and who was sent where so far."""

    def __init__(self, requests: Sequence[Request], state: State, cluster: Cluster) -> None:
        self.placed = Placed({}, {})
        self._cluster = cluster
        self._gpus = {n.node_id: n.gpus for n in state.nodes.values() if n.lost_at is None}
        self._free = free_gpus(state)
        self._running = len(state.leases)
        self._staged = {pair for pair in cluster.staged or () if pair[1] in self._gpus}
        waiting = {request.key for request in requests}
        self._load = Counter(node for key, node in self._staged if key in waiting)
        """Requests that are staged or being staged, by node."""
        self._stagings: Counter[str] = Counter()
        self._builds: dict[tuple[str, str], str] = {}
        """Where an image is being built, by tournament and hotkey."""

    def admit(self, request: Request) -> None:
        """Start it, stage it, or say what it waits for."""
        kind, gpus = request.requirement.gpu_type, request.requirement.gpus
        suitable = sorted(node for node, has in self._gpus.items() if has.get(kind, 0) >= gpus)
        roomy = [] if self._full else [node for node in suitable if self._free[node, kind] >= gpus]
        ready = [node for node in roomy if self._is_ready(request, node)]
        busy = reason_to_wait(request.requirement, bool(suitable), self._running if self._full else None)
        if ready:
            self._start(request, ready)
        elif request.unbuilt in self._builds:
            self._wait(request, f"the image of {request.unbuilt[1]} is being built on {self._builds[request.unbuilt]}")
        elif roomy:
            self._stage_here(request, roomy)
        elif self._is_staged(request, suitable):
            self._wait(request, busy)
        else:
            self._stage_ahead(request, suitable, busy)

    @property
    def _full(self) -> bool:
        most = self._cluster.max_trainers
        return most is not None and self._running >= most

    def _is_ready(self, request: Request, node: str) -> bool:
        return self._is_staged(request, [node]) and node not in self._cluster.unfit

    def _is_staged(self, request: Request, nodes: Sequence[str]) -> bool:
        return request.unbuilt is None and any((request.key, node) in self._staged for node in nodes)

    def _start(self, request: Request, ready: Sequence[str]) -> None:
        self.placed.nodes[request.key] = self._take(request, ready)
        self._running += 1

    def _stage_here(self, request: Request, roomy: Sequence[str]) -> None:
        node = self._take(request, self._fit(roomy))
        if self._stagings[node] < STAGINGS_PER_NODE:
            self._stage(request, node)
        else:
            self._wait(request, f"its image and data are staged on {node} after {STAGINGS_PER_NODE} others")

    def _stage_ahead(self, request: Request, suitable: Sequence[str], busy: str) -> None:
        """Where the fewest are, while no GPU is free; what is on its way to a node goes on."""
        idle = [node for node in self._fit(suitable) if self._stagings[node] < STAGINGS_PER_NODE]
        node = min(idle, key=lambda n: (not self._begun(request, n), self._load[n], n), default=None)
        if node is None:
            self._wait(request, busy)
        else:
            self._stage(request, node)

    def _take(self, request: Request, nodes: Sequence[str]) -> str:
        """The node where it is begun, else the fullest, with its GPUs taken."""
        kind = request.requirement.gpu_type
        node = min(nodes, key=lambda n: (not self._begun(request, n), self._free[n, kind], n))
        self._free[node, kind] -= request.requirement.gpus
        return node

    def _begun(self, request: Request, node: str) -> bool:
        pair = request.key, node
        return pair in self._staged or pair in self._cluster.staging

    def _fit(self, nodes: Sequence[str]) -> Sequence[str]:
        """Those on which something can be staged now; all of them where there is none, so that they are tried."""
        return [node for node in nodes if node not in self._cluster.unfit] or nodes

    def _stage(self, request: Request, node: str) -> None:
        self.placed.stagings[request.key] = node
        self._stagings[node] += 1
        self._load[node] += (request.key, node) not in self._staged
        if request.unbuilt is not None:
            self._builds[request.unbuilt] = node
        why = f": {self._cluster.unfit[node]}" if node in self._cluster.unfit else ""
        self._wait(request, f"its image and data are being staged on {node}{why}")

    def _wait(self, request: Request, reason: str) -> None:
        self.placed.waits[request.key] = reason
