"""Schedules of the same trainings by several policies, in virtual time, on nodes of 8 GPUs; all times in hours.

What every policy has to do is the same: download and build, train, upload. Ours does the first beforehand, both at the
same time, and the last afterwards, as `core.placement` has it staged; the others hold GPUs for all of it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from lab.traces import NODE_GPUS, Job
from tourney_ray.core.layout import Layout
from tourney_ray.core.leases import Cluster, Staged
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.core.placement import place
from tourney_ray.core.queueing import Line, Request
from tourney_ray.core.staging import put
from tourney_ray.core.state import State

START = datetime(2026, 1, 1, tzinfo=UTC)
POLL = 0.25
"""Between two looks of a scheduler that polls: 15 minutes."""

MOMENT = 1 / 3600
"""From a decision to its effect."""

Pick = Callable[[Sequence[Job], dict[str, int]], tuple[Job, str] | None]
"""Which of the waiting goes to which node next, by its free GPUs; None: nothing does."""


@dataclass(slots=True)
class Played:
    """How it went."""

    hours: float = 0.0
    """From the start to the end of the last training."""
    idle: float = 0.0
    """GPU-hours of which nobody had any use, though a training that waited would have fit."""
    idle_again: float = 0.0
    """Those of them after the first training on a GPU: before it nothing could be staged while it was busy."""
    _seen: float = 0.0
    _usable: int = 0
    _usable_again: int = 0
    _fresh: dict[str, int] = field(default_factory=dict[str, int])
    """GPUs of each node that nothing ran on so far."""

    def until(self, hours: float) -> None:
        """As many GPUs as before could have been used until then."""
        self.idle += self._usable * (hours - self._seen)
        self.idle_again += self._usable_again * (hours - self._seen)
        self._seen = hours

    def from_now(self, free: Mapping[str, int], usable: Mapping[str, int]) -> None:
        """So many are free on each node from now on, and so many of them could be used."""
        self._fresh = {node: min(gpus, self._fresh.get(node, NODE_GPUS)) for node, gpus in free.items()}
        self._usable = sum(usable.values())
        self._usable_again = sum(max(0, gpus - self._fresh[node]) for node, gpus in usable.items())


def ours(jobs: Sequence[Job], nodes: int) -> Played:
    """Of `core.placement.place`, asked again whenever anything has ended."""
    return _Ours(jobs, nodes).play()


def arrival_order(jobs: Sequence[Job], nodes: int) -> Played:
    """Of a queue that is served in the order of arrival, each to the fullest node that fits."""

    def pick(waiting: Sequence[Job], free: dict[str, int]) -> tuple[Job, str] | None:
        return _best_fit(waiting[:1], free)

    return _greedy(jobs, nodes, pick, polls=False)


def smallest_first(jobs: Sequence[Job], nodes: int) -> Played:
    """Of what Ray drifts to: the narrowest that fits goes first."""

    def pick(waiting: Sequence[Job], free: dict[str, int]) -> tuple[Job, str] | None:
        return _best_fit(sorted(waiting, key=lambda job: job.gpus), free)

    return _greedy(jobs, nodes, pick, polls=False)


def god(jobs: Sequence[Job], nodes: int) -> Played:
    """Of G.O.D's policy: every 15 minutes what leaves the smallest share of a node's free GPUs over; nobody waits for
    a wide one, and downloads, builds and uploads are done while GPUs are held.
    """

    def pick(waiting: Sequence[Job], free: dict[str, int]) -> tuple[Job, str] | None:
        fits = [(job, node) for job in waiting for node, gpus in free.items() if gpus >= job.gpus]
        return max(fits, key=lambda fit: fit[0].gpus / free[fit[1]], default=None)

    return _greedy(jobs, nodes, pick, polls=True)


def _request(job: Job) -> Request:
    """What a job asks for; each is a task of its own."""
    return Request(job.key, job.requirement, job.limit, START, task_id=job.key)


def _best_fit(jobs: Sequence[Job], free: dict[str, int]) -> tuple[Job, str] | None:
    for job in jobs:
        if fits := [node for node, gpus in free.items() if gpus >= job.gpus]:
            return job, min(fits, key=lambda node: (free[node], node))
    return None


def _greedy(jobs: Sequence[Job], nodes: int, pick: Pick, *, polls: bool) -> Played:
    free, waiting, played = {f"n{i:02d}": NODE_GPUS for i in range(nodes)}, list(jobs), Played()
    ends: list[tuple[float, int, Job, str]] = []
    order, now = count(), 0.0
    while waiting:
        while ends and ends[0][0] <= now:
            end, _, job, node = heapq.heappop(ends)
            played.until(end)
            free[node] += job.gpus
            played.from_now(free, _usable(waiting, free))
        played.until(now)
        while chosen := pick(waiting, free):
            job, node = chosen
            waiting.remove(job)
            free[node] -= job.gpus
            heapq.heappush(ends, (now + job.builds + job.downloads + job.runs + job.uploads, next(order), job, node))
        played.from_now(free, _usable(waiting, free))
        played.hours = max(end for end, *_ in ends)
        now = now + POLL if polls else ends[0][0]
    return played


def _usable(waiting: Iterable[Job], free: Mapping[str, int]) -> Counter[str]:
    """How many free GPUs of each node those that wait could have at once."""
    used = Counter[str]()
    for job in sorted(waiting, key=lambda job: -job.gpus):
        if fits := [node for node, gpus in free.items() if gpus - used[node] >= job.gpus]:
            used[fits[0]] += job.gpus
    return used


@dataclass
class _Ours:
    """The virtual nodes, as the placement sees them."""

    jobs: Sequence[Job]
    nodes: int
    now: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(
        default_factory=list[tuple[float, int, Callable[[], None]]]
    )
    leases: dict[str, Lease] = field(default_factory=dict[str, Lease])
    staged: dict[str, Staged] = field(default_factory=dict[str, Staged])
    staging: dict[str, dict[str, list[str]]] = field(default_factory=dict[str, dict[str, list[str]]])

    def __post_init__(self) -> None:
        self._order = count()
        self._machines = {f"n{i:02d}": Node(f"n{i:02d}", {"H100": NODE_GPUS}) for i in range(self.nodes)}
        self._by_key = {job.key: job for job in self.jobs}
        self._waiting = {job.key: Line.of(_request(job)) for job in self.jobs}
        self._layout = Layout()

    def play(self) -> Played:
        """All of them; what is staged where it may start at once would have a use for GPUs that are free."""
        played = Played()
        while self._waiting or self.leases:
            played.from_now(*self._decide())
            self.now, _, event = heapq.heappop(self.events)
            event()
            played.until(self.now)
        played.hours = self.now
        return played

    def _decide(self) -> tuple[dict[str, int], Counter[str]]:
        """Start and stage what can be; the free GPUs of each node, and those that wait for what is staged there."""
        state, now = self._state(), START + timedelta(hours=self.now)
        cluster = Cluster(staged=self.staged, staging=self.staging)
        placed = place(self._waiting.values(), state, cluster, now, self._layout)
        for key, node in placed.stagings.items():
            begun = self.staging.setdefault(key, {key: []})[key]
            if node not in begun:
                begun.append(node)
                job = self._by_key[key]
                builds = 0.0 if job.is_built or key in self.staged else job.builds
                self._after(max(builds, job.downloads), lambda key=key, node=node: self._lies(key, node))
        for key, node in placed.nodes.items():
            self._start(self._by_key[key], node, now)
        held = self._state().held
        free = {node: NODE_GPUS - held.get((node, "H100"), 0) for node in self._machines}
        awaited = Counter[str]()
        for key, node in placed.stagings.items():
            gpus = self._by_key[key].gpus
            awaited[node] += gpus if free[node] - awaited[node] >= gpus else 0
        return free, awaited

    def _start(self, job: Job, node: str, now: datetime) -> None:
        del self._waiting[job.key]
        until = now + timedelta(hours=job.limit)
        self.leases[job.key] = Lease(job.key, "t", job.key, job.key, 1, node, "H100", job.gpus, until)
        self._after(job.runs + MOMENT, lambda: self.leases.pop(job.key))

    def _lies(self, key: str, node: str) -> None:
        self.staging[key][key].remove(node)
        self.staged[key] = put(self.staged.get(key, {}), key, node, "")

    def _after(self, hours: float, event: Callable[[], object]) -> None:
        heapq.heappush(self.events, (self.now + hours, next(self._order), lambda: (event(), None)[1]))

    def _state(self) -> State:
        held: dict[tuple[str, str], int] = {}
        for lease in self.leases.values():
            held[lease.node, "H100"] = held.get((lease.node, "H100"), 0) + lease.gpus
        return State(nodes=self._machines, leases=self.leases, held=held)
