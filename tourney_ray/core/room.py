"""Free GPUs by node, and the one node of each GPU type that is kept for the first in line (EASY backfilling).

Guarantee: nothing that starts on a kept node delays the one for which it is kept, as far as time limits tell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heapify, heappop

from tourney_ray.core.leases import Cluster, free_gpus
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.queueing import Request
from tourney_ray.core.sizes import Sizes
from tourney_ray.core.state import State

LEEWAY = timedelta(minutes=2)
"""From the end of a time limit until the GPUs are free: what stops a container at last."""

UNSTAGED = timedelta(minutes=10)
"""By how much earlier a node has to be free to be kept for somebody that is staged on another one."""

EVALUATION = timedelta(minutes=15)
"""What an evaluation takes, as far as plans go: it has no time limit that would tell."""

_End = tuple[datetime, int, str, str]
"""When so many GPUs are free again, who has them until then, and on which node."""


@dataclass(slots=True)
class Kept:
    """A node that is kept for the first in line."""

    key: str
    node: str
    at: datetime
    """When it has enough free GPUs at the latest."""
    spare: int
    """GPUs that will be free then and are not needed: whoever stays longer may have so many."""
    behind: str
    """The attempt that ends last of those that are waited for; empty where there is none."""


class Room:
    """What is free now, what is kept, and what was taken since."""

    def __init__(self, state: State, cluster: Cluster, now: datetime, sizes: Sizes) -> None:
        self._state = state
        self._cluster = cluster
        self._now = now
        self._free: dict[str, dict[str, int]] = {}
        """By GPU type and node."""
        for (node, kind), count in free_gpus(state).items():
            self._free.setdefault(kind, {})[node] = count
        for seat in (cluster.seats or {}).values():
            self._let_sit(*seat)
        self._sizes = sizes
        self._roomy: dict[GpuRequirement, list[str]] = {}
        """The nodes that are narrow enough for it and have room, whoever they are kept for."""
        self._kept: dict[str, Kept] = {}
        """By GPU type."""
        self._taken = defaultdict[str, list[_End]](list)
        """What was let in here, by GPU type."""

    def fitting(self, request: Request) -> Sequence[str]:
        """The nodes on which it may start now."""
        need = request.requirement
        if need not in self._roomy:
            free, gpus = self._free.get(need.gpu_type, {}), need.gpus
            self._roomy[need] = [node for node in self._sizes.open_to(need) if free[node] >= gpus]
        roomy, kept = self._roomy[need], self._kept.get(need.gpu_type)
        if kept is None or kept.key == request.key or kept.node not in roomy:
            return roomy
        if kept.spare >= need.gpus or self._ends_before(kept, request.hours):
            return roomy
        return [node for node in roomy if node != kept.node]

    def fullest(self, need: GpuRequirement, nodes: Iterable[str]) -> str:
        """Of those nodes the one with the fewest free GPUs, of equals the first."""
        free = self._free[need.gpu_type]
        return min(nodes, key=lambda node: (free[node], node))

    def take(self, request: Request, node: str) -> None:
        """Let it in there."""
        kind, gpus = request.requirement.gpu_type, request.requirement.gpus
        free = self._free[kind]
        free[node] -= gpus
        for need, roomy in self._roomy.items():
            if need.gpu_type == kind and need.gpus > free[node] and node in roomy:
                roomy.remove(node)
        self._taken[kind].append((self._now + timedelta(hours=request.hours) + LEEWAY, gpus, request.key, node))
        kept = self._kept.get(kind)
        if kept and kept.node == node and not self._ends_before(kept, request.hours):
            kept.spare -= gpus

    def keep(self, request: Request, begun: Collection[str], *, anywhere: bool = True) -> None:
        """Keep a node for it, unless one is kept for somebody of that GPU type.

        Those where it is `begun` are preferred; unless `anywhere`, none else is kept, and no unfit one.
        """
        need = request.requirement
        if need.gpu_type in self._kept:
            return
        nodes = [node for node in self._sizes.open_to(need) if anywhere or node in begun]
        fit = [node for node in nodes if node not in self._cluster.unfit]
        kept = self._soonest(request, fit, begun) or (self._soonest(request, nodes, begun) if anywhere else None)
        if kept:
            self._kept[need.gpu_type] = kept

    def first_in_line(self, need: GpuRequirement) -> str:
        """For whom of that GPU type a node is kept; empty where for nobody."""
        kept = self._kept.get(need.gpu_type)
        return kept.key if kept else ""

    def kept_for(self, request: Request) -> Kept | None:
        """What is kept for that very request."""
        kept = self._kept.get(request.requirement.gpu_type)
        return kept if kept and kept.key == request.key else None

    def why_none(self, request: Request) -> str:
        """Why it cannot start now; that it needs GPUs goes without saying."""
        need = request.requirement
        if not self._sizes.suitable(need):
            return self._unsuitable(need)
        if not self._sizes.open_to(need):
            return "a node as small as that can be launched"
        kept = self._kept.get(need.gpu_type)
        if kept and kept.key == request.key:
            after = f", behind {kept.behind}" if kept.behind else ""
            return f"{kept.node} is kept for it, free at {kept.at:%F %T} UTC at the latest{after}"
        if kept and self._free[need.gpu_type][kept.node] >= need.gpus:
            return f"{kept.node} is kept for {kept.key}, and nothing else is free"
        return "all are leased"

    def _let_sit(self, node: str, kind: str) -> None:
        """Give an evaluation one of a node's GPUs."""
        free = self._free.setdefault(kind, {})
        free[node] = free.get(node, 0) - 1

    def _unsuitable(self, need: GpuRequirement) -> str:
        if self._sizes.launchable is None:
            return "no node has that"
        could = self._sizes.could_be_added(need)
        return "no node has that yet; one can be launched" if could else "no node has that, and none can be launched"

    def _soonest(self, request: Request, nodes: Sequence[str], begun: Collection[str]) -> Kept | None:
        """Of those nodes the one whose turn comes first, where it is staged by then; None where it never comes."""
        best: tuple[datetime, str, Kept] | None = None
        for turn in self._turns(request, nodes):
            if best and turn.at > best[0]:
                break
            starts_at = turn.at if turn.node in begun else turn.at + UNSTAGED
            if best is None or (starts_at, turn.node) < best[:2]:
                best = starts_at, turn.node, turn
        return best and best[2]

    def _turns(self, request: Request, nodes: Sequence[str]) -> Iterator[Kept]:
        """When each node has room for it at the latest, by the time limits of what runs there; the soonest first."""
        kind, gpus = request.requirement.gpu_type, request.requirement.gpus
        free, behind = {node: self._free[kind][node] for node in nodes}, dict[str, str]()
        ends, at, touched = self._ends(kind), self._now, [*nodes]
        heapify(ends)
        while touched or ends:
            while ends and ends[0][0] <= at:
                _, held, name, node = heappop(ends)
                if node in free:
                    free[node], behind[node] = free[node] + held, name
                    touched.append(node)
            for node in dict.fromkeys(touched):
                if free[node] >= gpus:
                    yield Kept(request.key, node, at, free.pop(node) - gpus, behind.get(node, ""))
            touched, at = [], ends[0][0] if ends else at

    def _ends(self, kind: str) -> list[_End]:
        """What is held of that type, and when it is free again; what is overdue is expected to take as long again."""
        ends, now = self._taken[kind].copy(), self._now
        for lease in self._state.leases.values():
            if lease.gpu_type == kind:
                limit = lease.until + LEEWAY
                end = limit if limit >= now else now + (now - limit)
                ends.append((end, lease.gpus, lease.attempt_id, lease.node))
        for command_id, (node, gpu_type) in (self._cluster.seats or {}).items():
            if gpu_type == kind:
                ends.append((now + EVALUATION, 1, command_id, node))
        return ends

    def _ends_before(self, kept: Kept, hours: float) -> bool:
        return self._now + timedelta(hours=hours) + LEEWAY <= kept.at
