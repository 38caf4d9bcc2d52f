"""What is asked of Ray's autoscaler: for each training that runs or waits, GPUs on one kind of machine.

Ray adds up the GPUs of whole machines, and would let narrow trainings have what is free on wide ones. So each bundle
names the kind of machine that it is for: where its training runs, else where there is room for it, else the smallest
kind of which one more may be started. Knows no Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.effects.cluster_file import ClusterFile, NodeType

REQUIREMENTS = {(need.gpu_type, need.gpus): need for need in GpuRequirement}


@dataclass(frozen=True, slots=True)
class Bundle:
    """GPUs for one training."""

    need: GpuRequirement
    machine: str = ""
    """Label of the kind of machine that they are to be on; empty: any."""


@dataclass(frozen=True, slots=True)
class Asked:
    """All that is asked for at once."""

    bundles: Counter[Bundle]
    kinds: frozenset[str]
    """Names of the kinds of machines of which there have to be more than there are."""


def asked(
    demand: Sequence[GpuRequirement],
    nodes: Sequence[Node],
    labels: Mapping[str, str],
    leases: Iterable[Lease],
    machines: ClusterFile,
    given_up: Collection[str],
) -> Asked:
    """What meets as much of the demand, the widest first, as there may be machines for at once.

    Ray starts nothing at all for what it cannot meet as a whole. `labels` are the nodes'; the kinds of machines that
    are `given_up`, by name, are asked for last, and then any other does as well.
    """
    packing = _Packing(nodes, labels, machines, given_up)
    waiting = packing.run(Counter(demand), leases)
    for need in sorted(waiting, key=lambda need: (-need.gpus, need.value)):
        packing.put(need, waiting[need])
    return Asked(packing.bundles, frozenset(packing.started))


def left(nodes: Sequence[Node], labels: Mapping[str, str], machines: ClusterFile) -> dict[str, int]:
    """How many more machines of each kind, by its name, there may be."""
    there = count(nodes, labels, machines)
    free = machines.max_workers - there.total()
    return {kind.name: max(0, min(free, kind.max_workers - there[kind.name])) for kind in machines.node_types}


def count(nodes: Sequence[Node], labels: Mapping[str, str], machines: ClusterFile) -> Counter[str]:
    """How many machines of each kind there are, by its name: as their labels say, else their GPUs."""
    there = Counter[str]()
    for node in nodes:
        label = labels.get(node.node_id, "")
        named = [kind for kind in machines.node_types if label and kind.machine == label]
        alike = named or [kind for kind in machines.node_types if kind.gpus and kind.gpus == node.gpus]
        open_kinds = [kind for kind in alike if there[kind.name] < kind.max_workers]
        there.update(kind.name for kind in (open_kinds or alike)[:1])
    return there


@dataclass(slots=True)
class _Room:
    """A machine that is there, or would be."""

    gpus: Mapping[str, int]
    free: dict[str, int]
    machine: str


class _Packing:
    """The machines with what is put on them, and how many more there may be."""

    def __init__(
        self, nodes: Sequence[Node], labels: Mapping[str, str], machines: ClusterFile, given_up: Collection[str]
    ) -> None:
        kinds = [kind for kind in machines.node_types if kind.gpus]
        self._kinds = sorted(kinds, key=lambda kind: (kind.name in given_up, sum(kind.gpus.values())))
        self._given_up = given_up
        self._left = left(nodes, labels, machines)
        self._all_left = machines.max_workers - count(nodes, labels, machines).total()
        self._rooms = {n.node_id: _Room(n.gpus, dict(n.gpus), labels.get(n.node_id, "")) for n in nodes}
        self.bundles = Counter[Bundle]()
        self.started = Counter[str]()
        """New machines, by the name of their kind."""

    def run(self, demand: Counter[GpuRequirement], leases: Iterable[Lease]) -> Counter[GpuRequirement]:
        """Put what holds GPUs where it runs; what is left of the demand."""
        for lease in leases:
            need, room = REQUIREMENTS[lease.gpu_type, lease.gpus], self._rooms.get(lease.node)
            if room is not None:
                room.free[lease.gpu_type] = room.free.get(lease.gpu_type, 0) - lease.gpus
                if demand[need]:
                    demand[need] -= 1
                    self.bundles[Bundle(need, room.machine)] += 1
        return +demand

    def put(self, need: GpuRequirement, wanted: int) -> None:
        """Put as many of them as there is room for, on machines that are there and on new ones."""
        wanted -= self._fill(need, wanted)
        while wanted and (kind := self._next(need)):
            self._left[kind.name] -= 1
            self._all_left -= 1
            self.started[kind.name] += 1
            label = "" if kind.name in self._given_up else kind.machine
            self._rooms[f"{kind.name}/{self.started[kind.name]}"] = _Room(kind.gpus, dict(kind.gpus), label)
            wanted -= self._fill(need, wanted)

    def _fill(self, need: GpuRequirement, wanted: int) -> int:
        """Put so many where there is room, the fullest first; how many have found it."""
        kind, found = need.gpu_type, 0
        least = min((k.gpus[kind] for k in self._kinds if self._may_start(k, need)), default=None)
        rooms = [r for r in self._rooms.values() if least is None or r.gpus.get(kind, 0) <= least]
        for room in sorted(rooms, key=lambda room: room.free.get(kind, 0)):
            here = min(wanted - found, max(0, room.free.get(kind, 0)) // need.gpus)
            if here:
                found += here
                room.free[kind] -= here * need.gpus
                self.bundles[Bundle(need, room.machine)] += here
        return found

    def _next(self, need: GpuRequirement) -> NodeType | None:
        """The kind of the machine to start for it; None where there may be none."""
        kinds = self._kinds if self._all_left > 0 else ()
        return next((kind for kind in kinds if self._left[kind.name] and holds(kind.gpus, need)), None)

    def _may_start(self, kind: NodeType, need: GpuRequirement) -> bool:
        """Whether it is worth leaving wide machines alone: one of that kind is expected to come."""
        expected = self._left[kind.name] and self._all_left > 0 and kind.name not in self._given_up
        return bool(expected) and holds(kind.gpus, need)


def holds(gpus: Mapping[str, int], need: GpuRequirement) -> bool:
    """Whether a machine with these GPUs, by type, could hold it if it were idle."""
    return gpus.get(need.gpu_type, 0) >= need.gpus
