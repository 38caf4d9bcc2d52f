"""Nodes and who holds their GPUs, as the state remembers them; `leases` says how that changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tourney_ray.core.events import NodeFenced


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster, as it was last seen."""

    node_id: str
    gpus: dict[str, int]
    """By GPU type."""
    lost_at: datetime | None = None
    """None while it is there."""
    fenced: NodeFenced | None = None
    """Who vouches that nothing runs on it any more, of a lost one."""


@dataclass(frozen=True, slots=True)
class Lease:
    """GPUs that one attempt holds, from its intent until nothing of it runs any more."""

    attempt_id: str
    tournament_id: str
    task_id: str
    hotkey: str
    epoch: int
    node: str
    gpu_type: str
    gpus: int
    until: datetime
    """The end of the attempt's time limit."""
