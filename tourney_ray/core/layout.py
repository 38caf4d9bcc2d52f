"""What of the trainings that wait lies where. Of a task of which nothing changed, nothing is looked at again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
    owners: Sequence[str]
    """To whom those belong of which anything lies anywhere."""
    looked_at: Sequence[ImageBuilt | None]
    """The images of these."""
    places: Mapping[str, Sequence[str]]
    """The nodes on which data and image lie, by training; without those that lie nowhere."""
    nowhere: Sequence[Request]
    """Those that lie nowhere, in their order."""

    def holds(self, line: Line, staged: Staged, nodes: Mapping[str, Node], images: Mapping[str, ImageBuilt]) -> bool:
        """Whether it is still so."""
        if self.line is not line or self.staged is not staged or self.nodes is not nodes:
            return False
        if self.images is not images:
            if [*map(images.get, self.owners)] != self.looked_at:
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
        """How many lie on each node, by what they need."""

    def sizes(self, state: State, cluster: Cluster) -> Sizes:
        """What fits on the nodes."""
        if self._sizes.nodes is not state.nodes or self._sizes.launchable != cluster.launchable:
            self._sizes = Sizes(state.nodes, cluster.launchable)
        return self._sizes

    def see(self, queue: Iterable[Line], state: State, cluster: Cluster) -> None:
        """Take in what lies where of all that wait, one line for each task, where anything has to lie."""
        if cluster.staged is None:
            return
        images = {t.tournament_id: t.images for t in state.tournaments.values()}
        gone = set(self._laid)
        for line in queue:
            task_id, owner = line.first.task_id, line.first.entrant
            gone.discard(task_id)
            known, staged = self._laid.get(task_id), cluster.staged.get(task_id, NOTHING)
            built = images.get(owner[0], NO_IMAGES) if owner else NO_IMAGES
            if known is None or not known.holds(line, staged, state.nodes, built):
                self._replace(task_id, _look(line, staged, state.nodes, built))
        for task_id in gone:
            self._replace(task_id, None)

    def places(self, request: Request) -> Collection[str]:
        """The nodes on which data and image of one that waits lie."""
        return self._laid[request.task_id].places.get(request.key, ())

    def nowhere(self, line: Line) -> Sequence[Request]:
        """Those of a line that lie nowhere, in their order."""
        return self._laid[line.first.task_id].nowhere

    def missing(self, task_id: str, keys: Iterable[str]) -> Iterator[Request]:
        """Those of these trainings of a task that wait and lie nowhere."""
        if laid := self._laid.get(task_id):
            yield from (laid.line.by_key[key] for key in keys if key in laid.line.by_key and key not in laid.places)

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
                if not waiting[node]:
                    del waiting[node]


def _look(line: Line, staged: Staged, nodes: Mapping[str, Node], images: Mapping[str, ImageBuilt]) -> Laid:
    owners, places = list[str](), dict[str, Sequence[str]]()
    for key, there in staged.items():
        if request := line.by_key.get(key):
            if request.entrant:
                owners.append(request.entrant[1])
            image = _image_id(request, images)
            if lying := [n for n, lies in there.items() if lies == image and n in nodes and not nodes[n].lost_at]:
                places[key] = lying
    nowhere = [request for request in line.requests if request.key not in places]
    return Laid(line, staged, nodes, images, owners, [*map(images.get, owners)], places, nowhere)


def image_id(request: Request, state: State) -> str | None:
    """Id of the image that its entrant has; empty where it needs none, None where there is none yet."""
    t = state.tournaments.get(request.entrant[0]) if request.entrant else None
    return _image_id(request, t.images if t else NO_IMAGES)


def _image_id(request: Request, images: Mapping[str, ImageBuilt]) -> str | None:
    if request.entrant is None:
        return ""
    built = images.get(request.entrant[1])
    return built.image_id if built else None
