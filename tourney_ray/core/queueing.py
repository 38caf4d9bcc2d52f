"""Trainings that wait for GPUs, and the order in which they are served (RULES §6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.state import Training

ALWAYS = datetime.min.replace(tzinfo=UTC)
TOURNAMENT = 2
"""Priority of a tournament's trainings; a lower number goes first."""

Rank = tuple[int, datetime, float, int, GpuRequirement]


@dataclass(frozen=True, slots=True)
class Request:
    """A training that waits for GPUs."""

    key: str
    requirement: GpuRequirement
    hours: float
    """Time limit of the training; it holds its GPUs no longer."""
    since: datetime = ALWAYS
    """When its round was drawn: all trainings of a round wait equally long, repeated ones included."""
    priority: int = TOURNAMENT
    task_id: str = ""
    """Whose data it needs."""
    entrant: tuple[str, str] | None = None
    """Tournament and hotkey, to whom an image belongs; None where no image is needed."""
    training: Training | None = None
    """What its owner wants to find again."""

    @property
    def spelled(self) -> str:
        """What it needs, as people read it."""
        return f"needs {self.requirement.gpus}×{self.requirement.gpu_type} on one node"


@dataclass(frozen=True, slots=True)
class Line:
    """The trainings of one task that wait, at least one, as they follow each other: they differ only in whose they are.

    Nothing of it ever changes: where one comes or goes, there is another line.
    """

    by_key: Mapping[str, Request]
    """In their order."""
    requests: tuple[Request, ...] = field(init=False)
    first: Request = field(init=False)
    """Whatever is true of all of them is true of this one."""
    rank: Rank = field(init=False)

    def __post_init__(self) -> None:
        """Find out once where all of them stand."""
        requests = tuple(self.by_key.values())
        object.__setattr__(self, "requests", requests)
        object.__setattr__(self, "first", requests[0])
        object.__setattr__(self, "rank", rank(requests[0]))

    @staticmethod
    def of(*requests: Request) -> Line:
        """The line of these."""
        return Line({request.key: request for request in requests})


def rank(request: Request) -> Rank:
    """What goes first when sorted: priority, the older round, the longest time limit, the most GPUs."""
    need = request.requirement
    return request.priority, request.since, -request.hours, -need.gpus, need


def in_order(queue: Iterable[Line]) -> list[list[Line]]:
    """The lines by rank, those of one rank as they came."""
    ranked: dict[Rank, list[Line]] = {}
    for line in queue:
        ranked.setdefault(line.rank, []).append(line)
    return [ranked[key] for key in sorted(ranked)]


@dataclass(slots=True)
class Placed:
    """Where requests go, by key, and why the others wait."""

    nodes: dict[str, str] = field(default_factory=dict[str, str])
    """What starts now."""
    stagings: dict[str, str] = field(default_factory=dict[str, str])
    """Where image and data of requests that wait are put meanwhile."""
    chosen: dict[str, Request] = field(default_factory=dict[str, Request])
    """The requests that start or are staged."""
    reasons: dict[str, str] = field(default_factory=dict[str, str])
    """Why they wait, of those that were looked at one by one."""
    behind: list[tuple[str, Sequence[Request]]] = field(default_factory=list[tuple[str, Sequence[Request]]])
    """A reason, and those that wait for it unless `reasons` says better."""

    def start(self, request: Request, node: str) -> None:
        """Let it start there."""
        self.nodes[request.key] = node
        self.chosen[request.key] = request

    def stage(self, request: Request, node: str, reason: str) -> None:
        """Let it be staged there, and wait for that."""
        self.stagings[request.key] = node
        self.chosen[request.key] = request
        self.reasons[request.key] = reason

    @property
    def waits(self) -> dict[str, str]:
        """Every request that does not start, with its reason; as long as the queue is."""
        return {r.key: reason for reason, requests in self.behind for r in requests} | self.reasons
