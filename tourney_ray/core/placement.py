"""Which waiting attempt goes to which node (RULES §6). Only what fits now is admitted; Ray's own queue stays empty."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from tourney_ray.core.leases import free_gpus
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.state import State, Training


@dataclass(frozen=True, slots=True)
class Request:
    """A training that waits for GPUs."""

    key: str
    requirement: GpuRequirement
    hours: float
    training: Training | None = None
    """What its owner wants to find again."""
    unbuilt: tuple[str, str] | None = None
    """Tournament and hotkey of its entrant while that one has no image yet; one image serves all its trainings."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where requests go, by key, and why the others wait."""

    nodes: dict[str, str]
    waits: dict[str, str]
    stagings: dict[str, str] = field(default_factory=dict[str, str])
    """Where image and data of requests that wait are put meanwhile, by key."""


class _Room:
    """Nodes by type and number of free GPUs: what fits is found at once, however many nodes there are."""

    def __init__(self, state: State) -> None:
        self._nodes: dict[str, dict[int, list[str]]] = {}
        for (node, kind), free in sorted(free_gpus(state).items()):
            self._nodes.setdefault(kind, {}).setdefault(free, []).append(node)

    def take(self, kind: str, gpus: int) -> str | None:
        """The fullest node on which so many fit, of those alike the first; now that many fuller. None without one."""
        nodes = self._nodes.get(kind, {})
        least = min((free for free, alike in nodes.items() if free >= gpus and alike), default=None)
        if least is None:
            return None
        node = heapq.heappop(nodes[least])
        heapq.heappush(nodes.setdefault(least - gpus, []), node)
        return node


def place(requests: Sequence[Request], state: State, max_trainers: int | None = None) -> Placed:
    """Longest time limit first, each to the fullest node that fits; every other request with its reason to wait."""
    room, running, placed = _Room(state), len(state.leases), Placed({}, {})
    for (_, _, requirement), alike in sorted(_alike(requests).items()):
        kind, gpus = requirement.gpu_type, requirement.gpus
        suitable = _check_suitable_gpus(requirement, state)
        for i, request in enumerate(alike):
            full = max_trainers is not None and running >= max_trainers
            node = room.take(kind, gpus) if suitable and not full else None
            if node is None:
                reason = reason_to_wait(requirement, suitable, running if full else None)
                placed.waits.update(dict.fromkeys((waiting.key for waiting in alike[i:]), reason))
                break
            running += 1
            placed.nodes[request.key] = node
    return placed


def urgency(request: Request) -> tuple[float, int, GpuRequirement]:
    """What goes first when sorted: the longest time limit, then the most GPUs."""
    return -request.hours, -request.requirement.gpus, request.requirement


def reason_to_wait(requirement: GpuRequirement, suitable: bool, running: int | None) -> str:
    """Why no GPUs are to be had: `suitable` if some node could hold it, `running` trainers if no more may run."""
    if not suitable:
        return f"needs {requirement.gpus}×{requirement.gpu_type} on one node: no node has that"
    if running is not None:
        return f"{running} trainers run, as many as this machine may"
    return f"needs {requirement.gpus}×{requirement.gpu_type} on one node: all are leased"


def _alike(requests: Sequence[Request]) -> dict[tuple[float, int, GpuRequirement], list[Request]]:
    """The requests by what they need, in their order: where one of them has to wait, those after it do too."""
    alike: dict[tuple[float, int, GpuRequirement], list[Request]] = {}
    for request in requests:
        alike.setdefault(urgency(request), []).append(request)
    return alike


def _check_suitable_gpus(requirement: GpuRequirement, state: State) -> bool:
    """Whether any node that is there, were it idle, could hold the training."""
    nodes = [node for node in state.nodes.values() if node.lost_at is None]
    return any(node.gpus.get(requirement.gpu_type, 0) >= requirement.gpus for node in nodes)
