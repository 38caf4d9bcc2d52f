"""What of the trainings that wait lies where. Of a task of which nothing changed, nothing is looked at again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from tourney_ray.core.events import ImageBuilt
from tourney_ray.core.leases import Cluster, Staged
from tourney_ray.core.nodes import Node
from tourney_ray.core.queueing import Line, Request
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
    counts: Mapping[str, int]
    """How many lie on each node."""

    def holds(self, line: Line, staged: Staged, state: State) -> bool:
        """Whether it is still so."""
        if self.line is not line or self.staged is not staged or self.nodes is not state.nodes:
            return False
        images = images_of(line.first, state)
        if self.images is not images:
            if any(images.get(hotkey) is not image for hotkey, image in self.looked_at):
                return False
            self.images = images
        return True

    def nowhere(self, at_most: int, seen: Collection[str] = ()) -> list[Request]:
        """The first of the line that lie nowhere, `seen` ones left out."""
        requests = (r for r in self.line.requests if r.key not in self.places and r.key not in seen)
        return list(islice(requests, at_most))


class Layout:
    """What is known of the lines of one plan, for the next one.

    Guarantee: what it says does not depend on what it was asked before.
    """

    def __init__(self, before: Mapping[str, Laid] | None = None) -> None:
        self._before = before or {}
        self.known: dict[str, Laid] = {}
        """By task."""

    def of(self, line: Line, state: State, cluster: Cluster) -> Laid:
        """Where its trainings lie."""
        task_id = line.first.task_id
        staged = (cluster.staged or {}).get(task_id, NOTHING)
        laid = self._before.get(task_id)
        if laid is None or not laid.holds(line, staged, state):
            laid = _look(line, staged, state)
        self.known[task_id] = laid
        return laid


def _look(line: Line, staged: Staged, state: State) -> Laid:
    places, counts, images = dict[str, Sequence[str]](), Counter[str](), images_of(line.first, state)
    looked_at: list[tuple[str, ImageBuilt | None]] = []
    for key, there in staged.items():
        if request := line.by_key.get(key):
            if request.entrant:
                looked_at.append((request.entrant[1], images.get(request.entrant[1])))
            if nodes := lying(request, there, state):
                places[key] = nodes
                counts.update(nodes)
    return Laid(line, staged, state.nodes, images, looked_at, places, counts)


def lying(request: Request, there: Mapping[str, str], state: State) -> list[str]:
    """Those of the nodes that are there on which its data lie with the image that its entrant has now."""
    image = image_id(request, state)
    return [n for n, lies in there.items() if lies == image and n in state.nodes and state.nodes[n].lost_at is None]


def image_id(request: Request, state: State) -> str | None:
    """Id of the image that its entrant has; empty where it needs none."""
    if request.entrant is None:
        return ""
    built = images_of(request, state).get(request.entrant[1])
    return built.image_id if built else None


def images_of(request: Request, state: State) -> Mapping[str, ImageBuilt]:
    """All images of its tournament, by hotkey."""
    t = state.tournaments.get(request.entrant[0]) if request.entrant else None
    return t.images if t else NO_IMAGES
