"""Which waiting attempt goes to which node (RULES §6). Only what fits now is admitted; Ray's own queue stays empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tourney_ray.core.models import AttemptStatus, GpuRequirement
from tourney_ray.core.state import Attempt, State


@dataclass(frozen=True, slots=True)
class Node:
    """A GPU node: its id and how many GPUs of each type it has."""

    node_id: str
    gpus: dict[str, int]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes that are there now."""

    nodes: tuple[Node, ...] = ()
    max_trainers: int | None = None
    """How many trainings may run at once whatever the GPUs; None: as many as fit."""


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


def leased(state: State) -> dict[tuple[str, str], int]:
    """GPUs held by live attempts, by (node, GPU type)."""
    held: dict[tuple[str, str], int] = {}
    for attempt in _live_attempts(state):
        key = (attempt.node, attempt.gpu_type)
        held[key] = held.get(key, 0) + attempt.gpus
    return held


def place(requests: Sequence[Request], cluster: Cluster, state: State) -> Placed:
    """Longest time limit first, each to the fullest node that fits; every other request with its reason to wait."""
    held = leased(state)
    free = {
        (n.node_id, kind): count - held.get((n.node_id, kind), 0)
        for n in cluster.nodes
        for kind, count in n.gpus.items()
    }
    running = sum(1 for _ in _live_attempts(state))
    placed = Placed({}, {})
    for request in sorted(requests, key=lambda r: (-r.hours, -r.requirement.gpus)):
        kind, gpus = request.requirement.gpu_type, request.requirement.gpus
        fitting = [(count, node) for (node, k), count in free.items() if k == kind and count >= gpus]
        if not _check_suitable_gpus(request.requirement, cluster):
            placed.waits[request.key] = f"needs {gpus}×{kind} on one node: no node has that"
        elif cluster.max_trainers is not None and running >= cluster.max_trainers:
            placed.waits[request.key] = f"{running} trainers run, as many as this machine may"
        elif not fitting:
            placed.waits[request.key] = f"needs {gpus}×{kind} on one node: all are leased"
        else:
            _, node = min(fitting)
            free[node, kind] -= gpus
            running += 1
            placed.nodes[request.key] = node
    return placed


def _check_suitable_gpus(requirement: GpuRequirement, cluster: Cluster) -> bool:
    """Whether any node, were it idle, could hold the training."""
    return any(node.gpus.get(requirement.gpu_type, 0) >= requirement.gpus for node in cluster.nodes)


def _live_attempts(state: State) -> Iterable[Attempt]:
    for t in state.live():
        for task in t.tasks.values():
            for training in task.trainings.values():
                if training.attempt and training.attempt.status is AttemptStatus.TRAINING:
                    yield training.attempt
