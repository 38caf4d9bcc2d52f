"""Where a checkpoint is evaluated: beside it, where nothing has to be moved and many nodes evaluate at once.

That is no rule of the tournament: the metric is the same wherever it is computed. Where evaluations hold a GPU, it is
one of the type that the task is trained on, so that all entrants of a task are measured on the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from tourney_ray.core.commands import Evaluate
from tourney_ray.core.leases import Cluster, Seat, free_gpus
from tourney_ray.core.nodes import Node
from tourney_ray.core.state import State


def evaluation_node(trained_on: str, nodes: Mapping[str, Node], unfit: Collection[str]) -> str | None:
    """The node on which a checkpoint is evaluated: the one where it was trained, since it lies there.

    None, which is the head, where that node is gone or `unfit`, that is where nothing can be evaluated for now.
    """
    node = nodes.get(trained_on)
    return trained_on if node and node.lost_at is None and trained_on not in unfit else None


@dataclass(slots=True)
class Seated:
    """Evaluations with a GPU each, and why the others wait."""

    commands: list[Evaluate] = field(default_factory=list[Evaluate])
    seats: dict[str, Seat] = field(default_factory=dict[str, Seat])
    """Of those under way and of those that start now, by command."""
    waits: dict[str, str] = field(default_factory=dict[str, str])
    """Reason by training."""


def seated(evaluations: Iterable[Evaluate], state: State, cluster: Cluster) -> Seated:
    """A GPU for each evaluation, as long as there are any: on the checkpoint's node, else on the fullest that has one.

    Those under way keep theirs. None waits for a training that has not begun, and none takes a GPU from one that has.
    """
    result = Seated(seats=dict(cluster.seats or {}))
    free = free_gpus(state)
    for seat in result.seats.values():
        free[seat] = free.get(seat, 0) - 1
    for command in evaluations:
        seat = result.seats.get(command.command_id) or _free_seat(command, free, cluster.unfit_to_evaluate)
        if seat is None:
            key = f"{command.task_id}.{command.hotkey}"
            result.waits[key] = f"its evaluation needs 1×{command.gpu_type}: {_why_none(command, free, cluster)}"
            continue
        if command.command_id not in result.seats:
            free[seat] -= 1
            result.seats[command.command_id] = seat
        result.commands.append(replace(command, node=seat[0]))
    return result


def _free_seat(command: Evaluate, free: Mapping[Seat, int], unfit: Collection[str]) -> Seat | None:
    own = command.trained_on, command.gpu_type
    if free.get(own, 0) > 0 and own[0] not in unfit:
        return own
    seats = [seat for seat, count in free.items() if seat[1] == command.gpu_type and count > 0 and seat[0] not in unfit]
    return min(seats, key=lambda seat: (free[seat], seat), default=None)


def _why_none(command: Evaluate, free: Mapping[Seat, int], cluster: Cluster) -> str:
    nodes = [node for node, kind in free if kind == command.gpu_type]
    if not nodes:
        return "no node has that"
    if all(node in cluster.unfit_to_evaluate for node in nodes):
        return "nothing can be evaluated for now where there are any"
    return "all are in use"
