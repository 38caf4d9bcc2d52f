"""What is asked of Ray's autoscaler: the machines that everything needs that runs or waits, each as a whole.

Ray adds up GPUs, whoever holds them: asked for those of each training, it would start nothing for a narrow one beside a
wide machine, nor for a wide one while as many GPUs are free here and there. So a training is put where it runs, else
where there is room for it, else on the smallest kind of which one more may be started; what is used by then is asked
for by its kind. Knows no Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.nodes import Node
from tourney_ray.core.sizes import check_suitable_gpus
from tourney_ray.effects.cluster_file import ClusterFile, NodeType

REQUIREMENTS = {(need.gpu_type, need.gpus): need for need in GpuRequirement}

Held = tuple[str, str, int]
"""A node, and the type and number of GPUs that somebody holds there."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """GPUs that are to be on one machine."""

    gpus: tuple[tuple[str, int], ...]
    """Types and numbers: all of a machine's, or what one training needs where nobody knows of any machines."""
    machine: str = ""
    """Label of the kind of machine; empty where kinds have none, or nobody knows of any."""


@dataclass(frozen=True, slots=True)
class Asked:
    """All that is asked for at once."""

    bundles: Counter[Bundle]
    kinds: frozenset[str]
    """Names of the kinds of machines of which there have to be more than there are."""
    coming: frozenset[str]
    """Those, and the kinds of which there may be one more beyond that."""


@dataclass(frozen=True, slots=True)
class Machines:
    """What there is, and what there may be."""

    file: ClusterFile
    nodes: Sequence[Node] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """The nodes' labels `tourney/machine`."""
    unfit: Collection[str] = ()
    """Nodes on which nothing can be started for now."""
    given_up: Collection[str] = ()
    """Names of kinds that do not come when they are asked for."""

    def kinds(self) -> dict[str, NodeType]:
        """Of which kind each node is, by its label, else its GPUs; without those that are none of the file's."""
        there, found = Counter[str](), dict[str, NodeType]()
        for node in self.nodes:
            label = self.labels.get(node.node_id, "")
            alike = [k for k in self.file.node_types if k.machine == label and (label or k.gpus == node.gpus != {})]
            open_kinds = [kind for kind in alike if there[kind.name] < kind.max_workers]
            if kind := next(iter(open_kinds or alike), None):
                found[node.node_id] = kind
                there[kind.name] += 1
        return found

    def count(self) -> Counter[str]:
        """How many machines of each kind there are, by its name."""
        return Counter(kind.name for kind in self.kinds().values())

    def left(self) -> dict[str, int]:
        """How many more machines of each kind there may be, by its name."""
        there = self.count()
        free = self.file.max_workers - there.total()
        return {k.name: max(0, min(free, k.max_workers - there[k.name])) for k in self.file.node_types}


def asked(demand: Sequence[GpuRequirement], held: Iterable[Held], machines: Machines) -> Asked:
    """What meets the demand, the widest first, as far as there may be machines for at once, the smallest ones first.

    Ray starts nothing at all for what it cannot meet as a whole. So what has room on a node that is none of the file's
    is not asked for: of such a node Ray's autoscaler knows nothing. Kinds that are given up are asked for last.
    """
    packing = _Packing(machines)
    waiting = packing.run(Counter(demand), held)
    for need in sorted(waiting, key=lambda need: (-need.gpus, need.value)):
        packing.put(need, waiting[need])
    return Asked(packing.bundles(), frozenset(packing.started), frozenset([*packing.started, *packing.open()]))


@dataclass(slots=True)
class _Room:
    """A machine that is there, or would be."""

    gpus: Mapping[str, int]
    free: dict[str, int]
    machine: str | None
    """The label to ask for it by; None where it is none of the file's."""
    is_fit: bool = True
    is_used: bool = False


class _Packing:
    """The machines with what is put on them, and how many more there may be."""

    def __init__(self, machines: Machines) -> None:
        given_up, kind_of = machines.given_up, machines.kinds()
        kinds = [kind for kind in machines.file.node_types if kind.gpus]
        self._kinds = sorted(kinds, key=lambda kind: (kind.name in given_up, sum(kind.gpus.values())))
        self._given_up = given_up
        self._left, self._all_left = machines.left(), machines.file.max_workers - len(kind_of)
        self._rooms = {
            n.node_id: _Room(
                n.gpus,
                dict(n.gpus),
                kind_of[n.node_id].machine if n.node_id in kind_of else None,
                n.node_id not in machines.unfit,
            )
            for n in machines.nodes
        }
        self.started = Counter[str]()
        """New machines, by the name of their kind."""

    def run(self, demand: Counter[GpuRequirement], held: Iterable[Held]) -> Counter[GpuRequirement]:
        """Put what holds GPUs where it runs; what is left of the demand."""
        for node, gpu_type, gpus in held:
            need, room = REQUIREMENTS[gpu_type, gpus], self._rooms.get(node)
            if room is not None:
                room.free[gpu_type] = room.free.get(gpu_type, 0) - gpus
                if demand[need]:
                    demand[need] -= 1
                    room.is_used = True
        return +demand

    def put(self, need: GpuRequirement, wanted: int) -> None:
        """Put as many of them as there is room for, on machines that are there and on new ones."""
        wanted -= self._fill(need, wanted)
        while wanted and (kind := self._next(need)):
            self._left[kind.name] -= 1
            self._all_left -= 1
            self.started[kind.name] += 1
            room = self._rooms[f"{kind.name}/{self.started[kind.name]}"] = _Room(
                kind.gpus, dict(kind.gpus), kind.machine
            )
            wanted -= _put_on(room, need, wanted)
            wanted -= self._fill(need, wanted)

    def bundles(self) -> Counter[Bundle]:
        """All machines of the file's that are used, and unfit ones that Ray would take for those to come."""
        labels = {kind.machine for kind in self._kinds if self.started[kind.name]}
        used = [r for r in self._rooms.values() if r.is_used or (not r.is_fit and r.machine in labels)]
        return Counter(Bundle(tuple(room.gpus.items()), room.machine) for room in used if room.machine is not None)

    def open(self) -> list[str]:
        """The kinds of which one more could be started."""
        return [kind.name for kind in self._kinds if self._all_left > 0 and self._left[kind.name]]

    def _fill(self, need: GpuRequirement, wanted: int) -> int:
        """Put so many where there is room, the fullest first; how many have found it."""
        gpu_type, smallest, found = need.gpu_type, self._next(need), 0
        rooms = [r for r in self._rooms.values() if r.is_fit and r.free.get(gpu_type, 0) >= need.gpus]
        if smallest and smallest.name not in self._given_up:  # larger machines are left alone for it
            rooms = [room for room in rooms if room.gpus[gpu_type] <= smallest.gpus[gpu_type]]
        for room in sorted(rooms, key=lambda room: room.free[gpu_type]):
            found += _put_on(room, need, wanted - found)
        return found

    def _next(self, need: GpuRequirement) -> NodeType | None:
        """The kind of the machine to start for it; None where there may be none."""
        kinds = self._kinds if self._all_left > 0 else ()
        return next((kind for kind in kinds if self._left[kind.name] and check_suitable_gpus(need, kind.gpus)), None)


def _put_on(room: _Room, need: GpuRequirement, wanted: int) -> int:
    """Put so many of them there, as far as there is room; how many."""
    here = min(wanted, room.free[need.gpu_type] // need.gpus)
    room.free[need.gpu_type] -= here * need.gpus
    room.is_used |= here > 0
    return here
