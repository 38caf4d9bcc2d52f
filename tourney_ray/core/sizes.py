"""What would fit on which node if it were idle: it changes only with the nodes, and with those that could be added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.nodes import Node

LEAST_STAGINGS = 2
GPUS_PER_STAGING = 2
"""On a node so many trainings are staged at a time, or one for so many of its GPUs where that is more."""

Launchable = tuple[tuple[str, int], ...] | None
"""GPU type and count of the nodes that could still be added; None: nobody knows of any."""


class Sizes:
    """The GPUs of the nodes that are there, and of those that could be added."""

    def __init__(self, nodes: Mapping[str, Node], launchable: Launchable) -> None:
        self.nodes, self.launchable = nodes, launchable
        self.gpus = {node.node_id: node.gpus for node in nodes.values() if node.lost_at is None}
        """By node and type."""
        self.stagings = {node: places(gpus) for node, gpus in self.gpus.items()}
        """How many trainings each node stages at a time."""
        self._suitable: dict[GpuRequirement, Sequence[str]] = {}
        self._open: dict[GpuRequirement, Sequence[str]] = {}
        self._stagings_open: dict[GpuRequirement, int] = {}

    def suitable(self, need: GpuRequirement) -> Sequence[str]:
        """The nodes that could hold it if they were idle."""
        if need not in self._suitable:
            self._suitable[need] = sorted(n for n, gpus in self.gpus.items() if check_suitable_gpus(need, gpus))
        return self._suitable[need]

    def open_to(self, need: GpuRequirement) -> Sequence[str]:
        """Those of them that it may have: none that is larger than one that could be launched instead."""
        if need not in self._open:
            self._open[need] = self._narrow_enough(need)
        return self._open[need]

    def stagings_open_to(self, need: GpuRequirement) -> int:
        """How many trainings these stage at a time."""
        if need not in self._stagings_open:
            self._stagings_open[need] = sum(self.stagings[node] for node in self.open_to(need))
        return self._stagings_open[need]

    def could_be_added(self, need: GpuRequirement) -> bool:
        """Whether a node could be added that could hold it."""
        return any(check_suitable_gpus(need, {kind: gpus}) for kind, gpus in self.launchable or ())

    def _narrow_enough(self, need: GpuRequirement) -> Sequence[str]:
        kind = need.gpu_type
        least = min((gpus for k, gpus in self.launchable or () if k == kind and gpus >= need.gpus), default=None)
        nodes = self.suitable(need)
        return nodes if least is None else [node for node in nodes if self.gpus[node][kind] <= least]


def places(gpus: Mapping[str, int]) -> int:
    """How many trainings a node with these GPUs stages at a time."""
    return max(LEAST_STAGINGS, sum(gpus.values()) // GPUS_PER_STAGING)


def check_suitable_gpus(need: GpuRequirement, gpus: Mapping[str, int]) -> bool:
    """Whether a node with these GPUs, by type, could hold the training if it were idle."""
    return gpus.get(need.gpu_type, 0) >= need.gpus
