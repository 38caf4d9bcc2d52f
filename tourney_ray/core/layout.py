"""What of the trainings that wait lies where. Of a task of which nothing changed, nothing is looked at again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tourney_ray.core.events import ImageBuilt
from tourney_ray.core.leases import Cluster, Staged
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.nodes import Node
from tourney_ray.core.queueing import Line, Request
from tourney_ray.core.sizes import Sizes
from tourney_ray.core.state import State

NOTHING: Staged = {}
NO_IMAGES: Mapping[str, ImageBuilt] = {}


@dataclass(slots=True)
class Laid:
    """Where the trainings of one line lie, and of what that was read."""

    line: Line
    staged: Staged
    nodes: Mapping[str, Node]
    images: Mapping[str, ImageBuilt]
    """Of its tournament, by hotkey."""
    looked_at: Sequence[tuple[str, ImageBuilt | None]]
    """The images of those of which anything lies anywhere."""
    places: Mapping[str, Sequence[str]]
    """The nodes on which data and image lie, by training; without those that lie nowhere."""
    nowhere: Sequence[Request]
    """Those that lie nowhere, in their order."""

    def holds(self, line: Line, staged: Staged, state: State) -> bool:
        """Whether it is still so."""
        if self.line is not line or self.staged is not staged or self.nodes is not state.nodes:
            return False
        images = _images_of(line.first, state)
        if self.images is not images:
            if any(images.get(hotkey) is not image for hotkey, image in self.looked_at):
                return False
            self.images = images
        return True


class Layout:
    """What lies where, brought up to date for one plan after the other.

    Guarantee: what it says does not depend on what it was told before.
    """

    def __init__(self) -> None:
        self._sizes = Sizes({}, None)
        self._laid: dict[str, Laid] = {}
        """By task."""
        self._waiting: dict[GpuRequirement, Counter[str]] = {}

    def sizes(self, state: State, cluster: Cluster) -> Sizes:
        """What fits on the nodes."""
        if self._sizes.nodes is not state.nodes or self._sizes.launchable != cluster.launchable:
            self._sizes = Sizes(state.nodes, cluster.launchable)
        return self._sizes

    def see(self, queue: Iterable[Line], state: State, cluster: Cluster) -> None:
        """Take in what lies where of all that wait, a line for each task, where anything has to lie."""
        if cluster.staged is None:
            return
        gone = set(self._laid)
        for line in queue:
            task_id = line.first.task_id
            gone.discard(task_id)
            known, staged = self._laid.get(task_id), cluster.staged.get(task_id, NOTHING)
            if known is None or not known.holds(line, staged, state):
                self._replace(task_id, _look(line, staged, state))
        for task_id in gone:
            self._replace(task_id, None)

    def places(self, request: Request) -> Collection[str]:
        """The nodes on which data and image of one that waits lie."""
        return self._laid[request.task_id].places.get(request.key, ())

    def nowhere(self, line: Line) -> Sequence[Request]:
        """Those of a line that lie nowhere, in their order."""
        return self._laid[line.first.task_id].nowhere

    def waiting(self, need: GpuRequirement) -> Counter[str]:
        """How many of those that need that lie on each node."""
        return Counter(self._waiting.get(need, {}))

    def _replace(self, task_id: str, laid: Laid | None) -> None:
        if known := self._laid.pop(task_id, None):
            self._count(known, -1)
        if laid:
            self._laid[task_id] = laid
            self._count(laid, 1)

    def _count(self, laid: Laid, times: int) -> None:
        waiting = self._waiting.setdefault(laid.line.first.requirement, Counter())
        for nodes in laid.places.values():
            for node in nodes:
                waiting[node] += times


def _look(line: Line, staged: Staged, state: State) -> Laid:
    images, places = _images_of(line.first, state), dict[str, Sequence[str]]()
    looked_at: list[tuple[str, ImageBuilt | None]] = []
    for key, there in staged.items():
        if request := line.by_key.get(key):
            if request.entrant:
                looked_at.append((request.entrant[1], images.get(request.entrant[1])))
            if nodes := _lying(request, there, state):
                places[key] = nodes
    nowhere = [request for request in line.requests if request.key not in places]
    return Laid(line, staged, state.nodes, images, looked_at, places, nowhere)


def _lying(request: Request, there: Mapping[str, str], state: State) -> list[str]:
    """Those of the nodes that are there on which its data lie with the image that its entrant has now."""
    image = image_id(request, state)
    return [n for n, lies in there.items() if lies == image and n in state.nodes and state.nodes[n].lost_at is None]


def image_id(request: Request, state: State) -> str | None:
    """Id of the image that its entrant has; empty where it needs none, None where there is none yet."""
    if request.entrant is None:
        return ""
    built = _images_of(request, state).get(request.entrant[1])
    return built.image_id if built else None


def _images_of(request: Request, state: State) -> Mapping[str, ImageBuilt]:
    """All images of its tournament, by hotkey."""
    t = state.tournaments.get(request.entrant[0]) if request.entrant else None
    return t.images if t else NO_IMAGES
