"""Which nodes there are and who holds their GPUs: how facts about nodes and leases change the state (RULES §6).

Guarantee: a lease begins only where its GPUs are free, and ends only when nothing of its attempt runs any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tourney_ray.core import events as e
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.core.replacing import replace
from tourney_ray.core.state import State
from tourney_ray.errors import IllegalTransition

Seat = tuple[str, str]
"""A node and a type of its GPUs, one of which an evaluation holds."""


Staged = Mapping[str, Mapping[str, str]]
"""Where data and images of a task's trainings lie: by training, by node, the image's id. Replaced where it changes."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes that can be seen now, whatever the journal says of them."""

    nodes: tuple[Node, ...] = ()
    max_trainers: int | None = None
    """How many trainings may run at once whatever the GPUs; None: as many as fit."""
    staged: Mapping[str, Staged] | None = None
    """What lies where, by task. None: trainers here need nothing."""
    staging: Mapping[str, Mapping[str, Collection[str]]] = field(
        default_factory=dict[str, Mapping[str, Collection[str]]]
    )
    """The nodes on which data and image are being put, by task and training: what is begun goes on where it is."""
    unfit: Mapping[str, str] = field(default_factory=dict[str, str])
    """Nodes on which nothing can be staged or started for now, and why; of those that need staging."""
    launchable: tuple[tuple[str, int], ...] | None = None
    """GPU type and count of the nodes that could still be added; None: nobody knows of any."""
    seats: Mapping[str, Seat] | None = None
    """What the evaluations under way hold, by command. None: evaluations need no GPUs."""
    unfit_to_evaluate: Collection[str] = ()
    """Nodes on which nothing can be evaluated for now; of those that have GPUs for it."""


def news_of_nodes(state: State, cluster: Cluster) -> list[e.NodeJoined | e.NodeLost]:
    """What the cluster shows that the state does not say yet. Nodes without GPUs are nobody's business."""
    seen = {node.node_id: node.gpus for node in cluster.nodes if node.gpus}
    known = {node.node_id: node.gpus for node in state.nodes.values() if node.lost_at is None}
    joined = [e.NodeJoined(node=name, gpus=gpus) for name, gpus in seen.items() if known.get(name) != gpus]
    return [*joined, *(e.NodeLost(node=name) for name in known if name not in seen)]


def free_gpus(state: State) -> dict[tuple[str, str], int]:
    """GPUs that nobody holds, by (node, GPU type), of the nodes that are there; negative where a node has shrunk."""
    there = {(n.node_id, kind): count for n in state.nodes.values() if not n.lost_at for kind, count in n.gpus.items()}
    return {place: count - state.held.get(place, 0) for place, count in there.items()}


def node_changed(state: State, fact: e.NodeJoined | e.NodeLost | e.NodeFenced, at: datetime) -> State:
    """The state after a node came, went, or was vouched to run nothing."""
    match fact:
        case e.NodeJoined():
            return replace(state, nodes={**state.nodes, fact.node: Node(fact.node, fact.gpus)})
        case e.NodeLost():
            node = _node(state, fact, there=True)
            return _forget_idle(replace(state, nodes={**state.nodes, fact.node: replace(node, lost_at=at)}))
        case _:
            node = _node(state, fact, there=False)
            return replace(state, nodes={**state.nodes, fact.node: replace(node, fenced=fact)})


def fenced_leases(state: State) -> list[e.LeaseEnded]:
    """The ends of all leases on nodes that run nothing any more, as a person vouched."""
    fenced = {node.node_id: node.fenced for node in state.nodes.values() if node.fenced}
    return [
        _end(lease, f"{lease.node} was fenced by {by.by}: {by.because}")
        for lease in state.leases.values()
        if (by := fenced.get(lease.node))
    ]


def lease_began(state: State, fact: e.AttemptStarted, at: datetime) -> State:
    """The state after an attempt took its GPUs; `IllegalTransition` unless its node is there and has them free."""
    terms, node = fact.terms, state.nodes.get(fact.node)
    held = state.held.get((fact.node, terms.gpu_type), 0)
    free = node.gpus.get(terms.gpu_type, 0) - held if node and not node.lost_at else 0
    if free < terms.gpus:
        wanted = f"{terms.gpus}×{terms.gpu_type}"
        raise IllegalTransition(f"{fact.kind} cannot follow: {fact.node} has {free} free, {wanted} are needed")
    lease = Lease(
        attempt_id=fact.attempt_id,
        tournament_id=fact.tournament_id,
        task_id=fact.task_id,
        hotkey=fact.hotkey,
        epoch=fact.epoch,
        node=fact.node,
        gpu_type=terms.gpu_type,
        gpus=terms.gpus,
        until=at + timedelta(hours=terms.hours),
    )
    leases = {**state.leases, fact.attempt_id: lease}
    return replace(state, leases=leases, held=_changed(state, lease, lease.gpus))


def lease_runs(state: State, fact: e.AttemptRunning, at: datetime) -> State:
    """The state after a container started on its GPUs: the time limit counts from there."""
    lease = state.leases.get(fact.attempt_id)
    if lease is None:
        return state
    task = state.tournaments[fact.tournament_id].tasks[fact.task_id]
    lease = replace(lease, until=at + timedelta(hours=task.hours))
    return replace(state, leases={**state.leases, fact.attempt_id: lease})


def lease_ended(state: State, fact: e.LeaseEnded) -> State:
    """The state after an attempt gave its GPUs back; `IllegalTransition` when it holds none."""
    lease = state.leases.get(fact.attempt_id)
    if lease is None or (lease.task_id, lease.hotkey) != (fact.task_id, fact.hotkey):
        raise IllegalTransition(f"{fact.kind} cannot follow: {fact.attempt_id} holds no GPUs")
    leases = {k: held for k, held in state.leases.items() if k != fact.attempt_id}
    return _forget_idle(replace(state, leases=leases, held=_changed(state, lease, -lease.gpus)))


def _changed(state: State, lease: Lease, gpus: int) -> dict[tuple[str, str], int]:
    """What is held, with so many more on the lease's node; nothing of a node on which nothing is."""
    place = lease.node, lease.gpu_type
    held = {**state.held, place: state.held.get(place, 0) + gpus}
    return held if held[place] else {k: count for k, count in held.items() if k != place}


def _end(lease: Lease, because: str) -> e.LeaseEnded:
    return e.LeaseEnded(
        tournament_id=lease.tournament_id,
        task_id=lease.task_id,
        hotkey=lease.hotkey,
        attempt_id=lease.attempt_id,
        witness="fence",
        because=because,
    )


def _node(state: State, fact: e.NodeLost | e.NodeFenced, *, there: bool) -> Node:
    node = state.nodes.get(fact.node)
    if node is None or (node.lost_at is None) is not there:
        wanted = "there" if there else "lost"
        raise IllegalTransition(f"{fact.kind} cannot follow: {fact.node} is no node that is {wanted}")
    return node


def _forget_idle(state: State) -> State:
    """Without the lost nodes on which nothing is leased: a cluster that grows and shrinks leaves nothing behind."""
    held = {lease.node for lease in state.leases.values()}
    if all(node.lost_at is None or node.node_id in held for node in state.nodes.values()):
        return state
    return replace(state, nodes={k: n for k, n in state.nodes.items() if n.lost_at is None or k in held})
