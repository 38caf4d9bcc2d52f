"""Which waiting training goes to which node (RULES §6). Only what fits now is admitted; Ray's own queue stays empty.

The order is priority, then the older round, then the longest time limit, then the most GPUs. Each goes to the fullest
node that fits. For the first of each GPU type that cannot start a node is kept: what comes after it starts there only
when it ends before that one's turn by its own time limit, or leaves it enough GPUs (EASY backfilling, Lifka 1995). Who
is not staged where there is room keeps a node on which it is, and lets others have the room, unless it is wide.

Guarantee: whatever arrives later, the first in line starts once its turn has come by the time limits of what runs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from tourney_ray.core.layout import Layout
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.queueing import Line, Placed, Request, in_order
from tourney_ray.core.room import Kept, Room
from tourney_ray.core.staging import Shelves
from tourney_ray.core.state import State

WIDE = 8
"""From so many GPUs on, that there is room on one node is too rare to be left to others while it is staged there."""


def place(queue: Iterable[Line], state: State, cluster: Cluster, now: datetime, layout: Layout | None = None) -> Placed:
    """What starts or is staged where, and why all others wait; each line is of a task of its own.

    How long it takes depends on what can start or be staged, and hardly on how much waits behind that, where `layout`
    is that of the plan before. It changes nothing else.
    """
    ordered, layout = in_order(queue), layout or Layout()
    layout.see((line for alike in ordered for line in alike), state, cluster)
    desk = _Desk(state, cluster, now, layout)
    for alike in ordered:
        desk.admit(alike)
    return desk.done()


class _Desk:
    """What room there is, what lies where, and who was sent where so far."""

    def __init__(self, state: State, cluster: Cluster, now: datetime, layout: Layout) -> None:
        self._cluster = cluster
        self._sizes = layout.sizes(state, cluster)
        self._room = Room(state, cluster, now, self._sizes)
        self._shelves = Shelves(state, cluster, layout)
        self._running = len(state.leases)
        self._placed = Placed()
        self._elsewhere: list[Request] = []
        """What is staged, but not where there is room for it, which those behind it may use."""
        self._first: list[Request] = []
        """Who is first in line, and does not lie on the node that is kept for it, if any is."""
        self._ahead: list[Sequence[Request]] = []
        """What else has no room and is to be staged until then, by line."""
        self._full_shelves: set[GpuRequirement] = set()
        """For what as much is staged ahead on every node as may be."""
        self._misses = 0
        """How many of the rank at hand could neither start nor be staged."""
        self._none = False
        """Whether there is no room any more for the rank at hand."""
        self._busy = ""
        """Why those of the rank at hand wait that are not first in line: from then on nothing but staging is left."""

    def admit(self, alike: Sequence[Line]) -> None:
        """Decide about all lines of one rank, in their order, until those behind can only wait."""
        self._misses, self._none, self._busy = 0, False, ""
        for i, line in enumerate(alike):
            if not self._admit_line(line):
                behind = alike[i + 1 :]
                why = self._busy or (self._why(behind[0].first) if behind else "")
                self._placed.behind += [(why, other.requests) for other in behind]
                return

    def done(self) -> Placed:
        """Where everything goes, once the room that is left and the shelves are used as well."""
        for request in self._elsewhere:
            self._none = False
            self._stage_here(request, self._roomy(request))
        for request in (*self._first, *self._shelves.under_way):
            if request.key not in self._placed.chosen:
                self._stage_ahead(request)
        for requests in self._ahead:
            self._stage_new(requests)
        return self._placed

    def _admit_line(self, line: Line) -> bool:
        """One by one while there is room, the rest as a whole; False where nothing can be done for those behind."""
        served = 0
        for request in () if self._busy else line.requests:
            if not self._served(request, line):
                self._placed.reasons.setdefault(request.key, self._why(request))
                if behind := line.requests[served + 1 :]:
                    self._placed.behind.append((self._why(behind[0]), behind))
                return False
            if self._busy:
                break
            served += 1
        return self._queued(line, served) if self._busy else True

    def _served(self, request: Request, line: Line) -> bool:
        """Start it, have it staged, or let it wait; False where nothing can be done for it and those behind it."""
        lies, roomy = self._shelves.lies(request), self._roomy(request)
        ready = self._shelves.fit(node for node in roomy if node in lies) if lies else ()
        if ready:
            self._start(request, self._room.fullest(request.requirement, ready))
            return True
        if not roomy:
            return self._held_back(request, line, lies)
        if lies or self._shelves.goes_on(request, roomy):
            self._let_others_in(request, lies)
            return True
        return self._stage_here(request, roomy) or self._missed(request.requirement)

    def _start(self, request: Request, node: str) -> None:
        self._room.take(request, node)
        self._shelves.started(request)
        self._placed.start(request, node)
        self._running += 1

    def _let_others_in(self, request: Request, lies: Collection[str]) -> None:
        """Let those behind it have the room on nodes on which it is not staged, but for what is kept for it."""
        self._placed.reasons[request.key] = "it is being staged on a node that has no room for it yet"
        kept = self._keep_turn(request)
        if kept:
            self._placed.reasons[request.key] = self._why(request)
        if kept and kept.node not in lies:
            self._first.append(request)
        elif lies:
            self._elsewhere.append(request)

    def _keep_turn(self, request: Request) -> Kept | None:
        """What is kept for it, if it is first in line: any node for a wide one, else a fit one where it is begun."""
        begun = self._shelves.begun(request)
        anywhere = request.requirement.gpus >= WIDE or not self._shelves.fit(begun)
        self._room.keep(request, begun, anywhere=anywhere)
        return self._room.kept_for(request)

    def _stage_here(self, request: Request, roomy: Sequence[str]) -> bool:
        """Stage it where there is room, and keep that for it; without a free slot it is first in line."""
        if self._waits_for_build(request):
            self._room.keep(request, self._shelves.begun(request))
            return True
        nodes = self._shelves.on_its_way(request, roomy) or self._shelves.idle(roomy)
        if not nodes:
            self._room.keep(request, self._shelves.begun(request))
            later = "its image and data are staged once a node with room is through with others"
            self._placed.reasons[request.key] = later if roomy else self._why(request)
            return False
        node = self._room.fullest(request.requirement, nodes)
        self._room.take(request, node)
        self._placed.stage(request, node, self._shelves.stage(request, node))
        return True

    def _held_back(self, request: Request, line: Line, lies: Collection[str]) -> bool:
        """Let it wait for GPUs: first in line where nobody is, else with all those behind it."""
        if self._full or self._room.first_in_line(request.requirement):
            self._busy = self._why(request) if self._shelves.needed else ""
            return self._shelves.needed
        self._room.keep(request, self._shelves.begun(request))
        self._placed.reasons[request.key] = self._why(request)
        kept = self._room.kept_for(request)
        if lies and (kept is None or kept.node in lies):
            return self._shelves.needed
        self._first.append(request)
        return self._missed(request.requirement)

    def _queued(self, line: Line, served: int) -> bool:
        """Let the rest of a line wait: what is not staged may be staged ahead."""
        self._placed.behind.append((self._busy, line.requests[served:]))
        nowhere, need = self._shelves.nowhere(line), line.first.requirement
        if first := {request.key for request in line.requests[:served]}:
            nowhere = [request for request in nowhere if request.key not in first]
        nowhere = nowhere[: self._sizes.stagings_open_to(need) + 1 - self._misses]
        self._ahead.append(nowhere)
        return self._missed(need, len(nowhere))

    def _stage_new(self, requests: Sequence[Request]) -> None:
        for request in requests:
            if request.requirement in self._full_shelves:
                return
            if request.key not in self._placed.chosen:
                self._stage_ahead(request)

    def _stage_ahead(self, request: Request) -> None:
        if self._waits_for_build(request):
            return
        kept, nodes = self._room.kept_for(request), self._sizes.open_to(request.requirement)
        builds = self._shelves.builds_itself(request, nodes)
        node = self._shelves.ahead(request, [kept.node], math.inf) if kept and not builds else None
        if node is None and (kept is None or self._shelves.on_its_way(request, nodes)):
            node = self._shelves.ahead(request, nodes)
        if node:
            self._placed.stage(request, node, self._shelves.stage(request, node))
        elif kept is None:
            self._full_shelves.add(request.requirement)

    def _waits_for_build(self, request: Request) -> bool:
        where = self._shelves.builds_on(request)
        if where and request.entrant:
            self._placed.reasons[request.key] = f"the image of {request.entrant[1]} is being built on {where}"
        return where is not None

    def _missed(self, need: GpuRequirement, more: int = 1) -> bool:
        """Whether to look further: what is staged is at the queue's head, and the rest only waits for places."""
        self._misses += more
        return self._misses <= self._sizes.stagings_open_to(need)

    def _roomy(self, request: Request) -> Sequence[str]:
        if self._none or self._full:
            return ()
        roomy = self._room.fitting(request)
        self._none = not roomy
        return roomy

    @property
    def _full(self) -> bool:
        most = self._cluster.max_trainers
        return most is not None and self._running >= most

    def _why(self, request: Request) -> str:
        if self._full and self._sizes.suitable(request.requirement):
            return f"{self._running} trainers run, as many as this machine may"
        return f"{request.spelled}: {self._room.why_none(request)}"
