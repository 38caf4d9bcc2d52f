"""Which waiting attempt goes to which node (RULES §6). Only what fits now is admitted; Ray's own queue stays empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tourney_ray.core.leases import free_gpus
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.state import State


@dataclass(frozen=True, slots=True)
class Request:
    """A training that waits for GPUs."""

    key: str
    requirement: GpuRequirement
    hours: float


@dataclass(frozen=True, slots=True)
class Placed:
    """Where requests go, by key, and why the others wait."""

    nodes: dict[str, str]
    waits: dict[str, str]


def place(requests: Sequence[Request], state: State, max_trainers: int | None = None) -> Placed:
    """Longest time limit first, each to the fullest node that fits; every other request with its reason to wait."""
    free = free_gpus(state)
    running = len(state.leases)
    placed = Placed({}, {})
    for request in sorted(requests, key=lambda r: (-r.hours, -r.requirement.gpus)):
        kind, gpus = request.requirement.gpu_type, request.requirement.gpus
        fitting = [(count, node) for (node, k), count in free.items() if k == kind and count >= gpus]
        if not _check_suitable_gpus(request.requirement, state):
            placed.waits[request.key] = f"needs {gpus}×{kind} on one node: no node has that"
        elif max_trainers is not None and running >= max_trainers:
            placed.waits[request.key] = f"{running} trainers run, as many as this machine may"
        elif not fitting:
            placed.waits[request.key] = f"needs {gpus}×{kind} on one node: all are leased"
        else:
            _, node = min(fitting)
            free[node, kind] -= gpus
            running += 1
            placed.nodes[request.key] = node
    return placed


def _check_suitable_gpus(requirement: GpuRequirement, state: State) -> bool:
    """Whether any node that is there, were it idle, could hold the training."""
    nodes = [node for node in state.nodes.values() if node.lost_at is None]
    return any(node.gpus.get(requirement.gpu_type, 0) >= requirement.gpus for node in nodes)
