"""Which waiting training goes to which node (RULES §6). Only what fits now is admitted; Ray's own queue stays empty.

The order is priority, then the older round, then the longest time limit, then the most GPUs. Each goes to the fullest
node that fits. For the first of each GPU type that does not fit a node is kept: what comes after it starts there only
when it ends before that one's turn by its own time limit, or leaves it enough GPUs (EASY backfilling, Lifka 1995).

Guarantee: whatever arrives later, the first in line starts once its turn has come by the time limits of what runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.queueing import Placed, Request, in_order
from tourney_ray.core.room import Room
from tourney_ray.core.staging import Shelves
from tourney_ray.core.state import State


def place(queue: Iterable[Sequence[Request]], state: State, cluster: Cluster, now: datetime) -> Placed:
    """What starts or is staged where, and why all others wait; each sequence in `queue` is of one task.

    How long it takes depends on what can start or be staged, and not on how much waits behind that.
    """
    desk = _Desk(state, cluster, now)
    for alike in in_order(queue):
        desk.admit(alike)
    return desk.done()


class _Desk:
    """What room there is, what lies where, and who was sent where so far."""

    def __init__(self, state: State, cluster: Cluster, now: datetime) -> None:
        self._cluster = cluster
        self._room = Room(state, cluster, now)
        self._shelves = Shelves(state, cluster)
        self._running = len(state.leases)
        self._placed = Placed()
        self._elsewhere: list[Request] = []
        """What is staged, but not where there is room for it."""
        self._ahead: list[Request] = []
        """What has no room and is to be staged until then."""
        self._full_shelves: set[GpuRequirement] = set()
        """For what as much is staged ahead on every node as may be."""
        self._misses = 0
        """How many of the rank at hand could neither start nor be staged."""
        self._none = False
        """Whether there is no room any more for the rank at hand."""
        self._busy = ""
        """Why those of the rank at hand wait that are not first in line: from then on nothing but staging is left."""
        self._most = 0
        """How many trainings of the rank at hand can be staged at a time."""

    def admit(self, alike: Sequence[Sequence[Request]]) -> None:
        """Decide about all requests of one rank, in their order, until those behind can only wait."""
        self._misses, self._none, self._busy = 0, False, ""
        for i, requests in enumerate(alike):
            for j, request in enumerate(requests):
                served = self._queued(request) if self._busy else self._served(request)
                if not served:
                    self._let_wait(request, [requests[j + 1 :], *alike[i + 1 :]])
                    return

    def done(self) -> Placed:
        """Where everything goes, once the room that is left and the shelves are used as well."""
        for request in self._elsewhere:
            self._none = False
            self._stage_here(request, self._roomy(request))
        for request in self._ahead:
            self._stage_ahead(request)
        return self._placed

    def _served(self, request: Request) -> bool:
        """Start it, have it staged, or let it wait; False where nothing can be done for it and those behind it."""
        lies, roomy = self._shelves.lies(request), self._roomy(request)
        ready = self._shelves.fit(node for node in roomy if node in lies) if lies else ()
        if ready:
            self._start(request, self._room.fullest(request.requirement, ready))
            return True
        if not roomy:
            return self._held_back(request, lies)
        if lies:
            self._elsewhere.append(request)
            return True
        if self._shelves.goes_on(request, roomy):
            self._ahead.append(request)
            return True
        return self._stage_here(request, roomy) or self._missed(request)

    def _let_wait(self, request: Request, behind: Sequence[Sequence[Request]]) -> None:
        """Say why it waits, if that was not said, and why all those behind it do."""
        self._placed.reasons.setdefault(request.key, self._why(request))
        if others := [requests for requests in behind if requests]:
            self._placed.behind.append((self._why(others[0][0]), others))

    def _start(self, request: Request, node: str) -> None:
        self._room.take(request, node)
        self._placed.start(request, node)
        self._running += 1

    def _stage_here(self, request: Request, roomy: Sequence[str]) -> bool:
        """Stage it where there is room, and keep that for it; without a free slot it is first in line."""
        if self._waits_for_build(request):
            return True
        idle = self._shelves.idle(self._shelves.on_its_way(request, roomy) or roomy)
        if not idle:
            self._room.keep(request, self._shelves.begun(request))
            later = "its image and data are staged once a node with room is through with others"
            self._placed.reasons[request.key] = later if roomy else self._why(request)
            return False
        node = self._room.fullest(request.requirement, idle)
        self._room.take(request, node)
        self._placed.stage(request, node, self._shelves.stage(request, node))
        return True

    def _held_back(self, request: Request, lies: Collection[str]) -> bool:
        """Let it wait for GPUs, first in line where nobody is, staged ahead where it is not staged."""
        if not self._full and not self._room.is_kept(request.requirement):
            self._room.keep(request, self._shelves.begun(request))
            self._placed.reasons[request.key] = self._why(request)
        elif not self._shelves.needed:
            return False
        else:
            self._busy = self._why(request)
            return self._queued(request)
        kept = self._room.kept_for(request)
        if lies and (kept is None or kept.node in lies):
            self._shelves.count(request, lies)
            return self._shelves.needed
        self._ahead.append(request)
        return self._missed(request)

    def _queued(self, request: Request) -> bool:
        """Let it wait behind the first in line: it only counts where it is staged, or is to be staged ahead."""
        self._placed.reasons[request.key] = self._busy
        if lies := self._shelves.lies(request):
            self._shelves.count(request, lies)
            return True
        self._ahead.append(request)
        return self._missed(request)

    def _stage_ahead(self, request: Request) -> None:
        if self._waits_for_build(request):
            return
        kept, nodes = self._room.kept_for(request), self._room.open_to(request.requirement)
        if kept is None and request.requirement in self._full_shelves and not self._shelves.is_under_way(request):
            return
        node = self._shelves.ahead(request, [kept.node] if kept else nodes)
        if node:
            self._placed.stage(request, node, self._shelves.stage(request, node))
        elif kept is None:
            self._full_shelves.add(request.requirement)

    def _waits_for_build(self, request: Request) -> bool:
        where = self._shelves.builds_on(request)
        if where and request.entrant:
            self._placed.reasons[request.key] = f"the image of {request.entrant[1]} is being built on {where}"
        return where is not None

    def _missed(self, request: Request) -> bool:
        """Whether to look further: what is staged is at the queue's head, and the rest only waits for places."""
        if not self._misses:
            self._most = self._shelves.most(self._room.open_to(request.requirement))
        self._misses += 1
        return self._misses <= self._most

    def _roomy(self, request: Request) -> Sequence[str]:
        if self._none or self._full:
            return ()
        roomy = self._room.fitting(request.requirement, request.hours)
        self._none = not roomy
        return roomy

    @property
    def _full(self) -> bool:
        most = self._cluster.max_trainers
        return most is not None and self._running >= most

    def _why(self, request: Request) -> str:
        if self._full and self._room.suitable(request.requirement):
            return f"{self._running} trainers run, as many as this machine may"
        return f"{request.spelled}: {self._room.why_none(request)}"
