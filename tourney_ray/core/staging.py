"""What lies on which node, and what is put there before GPUs are held (RULES §6).

Guarantee: a training starts only where its image and its data lie; an image is built in one place at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from tourney_ray.core.layout import Layout, image_id
from tourney_ray.core.leases import Cluster, Staged
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.queueing import Line, Request
from tourney_ray.core.state import State

AHEAD = 2
"""For how many times a node's GPUs trainings of one width are staged there before there is room for them."""


class Shelves:
    """The nodes' places for images and data. Where trainings need none, everything lies everywhere."""

    def __init__(self, state: State, cluster: Cluster, layout: Layout) -> None:
        self._state = state
        self._cluster = cluster
        self._layout = layout
        self._sizes = layout.sizes(state, cluster)
        self._load: dict[GpuRequirement, Counter[str]] = {}
        """Trainings that are staged, or being staged, on a node and wait, by what they need."""
        self._begun = {
            (key, node) for stagings in cluster.staging.values() for key, nodes in stagings.items() for node in nodes
        }
        """What is being staged where already, and keeps its place there."""
        self._stagings = Counter(node for _, node in self._begun)
        self._slots = sum(max(0, most - self._stagings[node]) for node, most in self._sizes.stagings.items())
        """How many more can be staged at a time."""
        self._builds: dict[tuple[str, str], tuple[str, str]] = {}
        """For which training an image is being built, and where, by tournament and hotkey."""
        self.under_way = [*self._under_way()] if self.needed else []
        """What waits, lies nowhere and is being staged."""
        for request in self.under_way:
            self._builds_for(request, self.on_its_way(request, self._sizes.gpus)[0])

    @property
    def needed(self) -> bool:
        """Whether anything has to lie anywhere before a training starts."""
        return self._cluster.staged is not None

    def lies(self, request: Request) -> Collection[str]:
        """The nodes on which its data lie, with its entrant's image of now; all of them where nothing has to."""
        return self._layout.places(request) if self.needed else self._sizes.gpus

    def nowhere(self, line: Line) -> Sequence[Request]:
        """Those of a line that lie nowhere, in their order."""
        return self._layout.nowhere(line)

    def fit(self, nodes: Iterable[str]) -> Sequence[str]:
        """Those of the nodes on which something can be started or staged for now."""
        return [node for node in nodes if node not in self._cluster.unfit]

    def begun(self, request: Request) -> Collection[str]:
        """The nodes on which it is staged or being staged."""
        return [*self.lies(request), *self._staging_of(request)]

    def goes_on(self, request: Request, roomy: Sequence[str]) -> bool:
        """Whether it is being staged already, but on none of those nodes: what is begun goes on where it is."""
        under_way = self._staging_of(request)
        return any(node in self._sizes.gpus for node in under_way) and not any(node in roomy for node in under_way)

    def on_its_way(self, request: Request, nodes: Collection[str]) -> list[str]:
        """Those of the nodes on which it is being staged."""
        return [node for node in self._staging_of(request) if node in nodes]

    def builds_itself(self, request: Request, nodes: Collection[str]) -> bool:
        """Whether its image is being built for it on one of the nodes: on any other there would be a second build."""
        return self._is_unbuilt(request) and bool(self.on_its_way(request, nodes))

    def started(self, request: Request) -> None:
        """It does not wait any more where it lies."""
        load = self._waiting(request.requirement)
        for node in self.lies(request) if self.needed else ():
            load[node] -= 1

    def builds_on(self, request: Request) -> str | None:
        """Where its image is being built for another training."""
        build = self._builds.get(request.entrant) if request.entrant else None
        return build[1] if build and build[0] != request.key else None

    def idle(self, nodes: Sequence[str]) -> list[str]:
        """Those on which something can be staged now; an unfit one is tried where there is no other."""
        if not self._slots:
            return []
        return [node for node in self.fit(nodes) or nodes if self._stagings[node] < self._sizes.stagings[node]]

    def ahead(self, request: Request, nodes: Sequence[str], most: float = AHEAD) -> str | None:
        """Where it is staged until there is room for it: where it is begun, else where the least waits for its size.

        Nowhere where more than `most` times a node's GPUs would be waited for.
        """
        if begun := self.on_its_way(request, nodes):
            return begun[0]
        waits, gpus = self._waiting(request.requirement), self._sizes.gpus
        kind, each = request.requirement.gpu_type, request.requirement.gpus
        load = {n: (waits[n] + 1) * each / gpus[n][kind] for n in self.idle(nodes)}
        return min((n for n in load if load[n] <= most), key=lambda n: (load[n], n), default=None)

    def stage(self, request: Request, node: str) -> str:
        """Let it be staged there; what it waits for, then."""
        if (request.key, node) not in self._begun:
            self._stagings[node] += 1
            self._slots -= 1
        self._waiting(request.requirement)[node] += 1
        self._builds_for(request, node)
        why = f": {self._cluster.unfit[node]}" if node in self._cluster.unfit else ""
        return f"its image and data are being staged on {node}{why}"

    def _under_way(self) -> Iterator[Request]:
        for task_id, stagings in sorted(self._cluster.staging.items()):
            for request in self._layout.missing(task_id, stagings):
                if self.on_its_way(request, self._sizes.gpus):
                    yield request

    def _is_unbuilt(self, request: Request) -> bool:
        """Whether its entrant has no image yet."""
        return image_id(request, self._state) is None

    def _builds_for(self, request: Request, node: str) -> None:
        """Its image is built there, unless there is one or it is being built already."""
        if request.entrant is not None and self._is_unbuilt(request):
            self._builds.setdefault(request.entrant, (request.key, node))

    def _waiting(self, need: GpuRequirement) -> Counter[str]:
        if need not in self._load:
            self._load[need] = self._layout.waiting(need)
        return self._load[need]

    def _staging_of(self, request: Request) -> Collection[str]:
        """The nodes on which it is being staged."""
        return self._cluster.staging.get(request.task_id, {}).get(request.key, ())


def put(staged: Staged, key: str, node: str, image_id: str | None) -> Staged:
    """What lies of a task's trainings where, once that image lies there with the data of `key`; None: nothing does."""
    there = {k: v for k, v in staged.get(key, {}).items() if k != node}
    return {**staged, key: there if image_id is None else {**there, node: image_id}}
