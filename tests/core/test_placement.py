"""Which waiting attempt goes to which node (RULES §6)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, strategies as st

from tests.builders import Stage, leased, miners
from tests.core.arena import Arena
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import GpuRequirement, TournamentType
from tourney_ray.core.nodes import Node
from tourney_ray.core.placement import Request, place
from tourney_ray.core.state import State

ONE, TWO, FOUR, EIGHT, A100 = (
    GpuRequirement.H100_1X,
    GpuRequirement.H100_2X,
    GpuRequirement.H100_4X,
    GpuRequirement.H100_8X,
    GpuRequirement.A100,
)


def nodes(**h100: int) -> Cluster:
    return Cluster(tuple(Node(name, {"H100": count}) for name, count in h100.items()))


def seen(cluster: Cluster) -> State:
    """A state in which nothing is known but that cluster."""
    stage = Stage()
    stage.see(cluster)
    return stage.state


def busy(cluster: Cluster, count: int, kind: TournamentType = TournamentType.TEXT) -> State:
    """A state in which so many attempts hold leases on that cluster."""
    arena = Arena(miners(16), cluster=cluster).open(kind).until_active()
    for _ in range(count):
        arena.do(next(c for c in arena.plan().commands if getattr(c, "intent", None)))
    return arena.stage.state


def test_an_idle_cluster_leases_nothing():
    assert leased(State()) == {}


def test_leases_are_counted_by_node_and_type():
    state = busy(nodes(n1=2, n2=8), 5)
    assert leased(state) == {("n1", "H100"): 2, ("n2", "H100"): 3}
    assert leased(busy(Cluster((Node("n1", {"A100": 8}),)), 3, TournamentType.IMAGE)) == {("n1", "A100"): 3}


def test_ended_attempts_give_their_gpus_back():
    arena = Arena(miners(16)).open().until_active()
    (intent, *_) = arena.plan().commands
    arena.do(intent)
    assert sum(leased(arena.stage.state).values()) == 1
    arena.do(arena.plan().commands[0])
    assert leased(arena.stage.state) == {}


def test_the_longest_goes_first_and_of_equals_the_largest():
    requests = [Request("short", FOUR, 1), Request("small", FOUR, 2), Request("large", EIGHT, 2)]
    placed = place(requests, seen(nodes(n1=8)))
    assert placed.nodes == {"large": "n1"}
    assert set(placed.waits) == {"short", "small"}


def test_the_fullest_node_that_fits_is_taken():
    cluster = nodes(n1=8, n2=4, n3=2)
    assert place([Request("a", TWO, 1)], seen(cluster), cluster.max_trainers).nodes == {"a": "n3"}
    assert place([Request("a", FOUR, 1)], seen(cluster), cluster.max_trainers).nodes == {"a": "n2"}
    assert place([Request("a", ONE, 1), Request("b", EIGHT, 1)], seen(cluster), cluster.max_trainers).nodes == {
        "a": "n3",
        "b": "n1",
    }


def test_a_small_request_does_not_wait_for_a_large_one():
    placed = place([Request("large", FOUR, 6), Request("small", TWO, 1)], busy(nodes(n1=4), 1))
    assert placed.nodes == {"small": "n1"}
    assert placed.waits == {"large": "needs 4×H100 on one node: all are leased"}


def test_what_no_node_could_ever_hold_says_so():
    placed = place([Request("big", EIGHT, 1), Request("image", A100, 1)], seen(nodes(n1=4, n2=4)))
    assert placed.nodes == {}
    assert placed.waits == {
        "big": "needs 8×H100 on one node: no node has that",
        "image": "needs 1×A100 on one node: no node has that",
    }


def test_no_more_trainers_than_the_machine_may_run():
    cluster = replace(nodes(n1=8), max_trainers=3)
    placed = place([Request("a", ONE, 2), Request("b", ONE, 1)], busy(cluster, 2), cluster.max_trainers)
    assert placed.nodes == {"a": "n1"}
    assert placed.waits == {"b": "3 trainers run, as many as this machine may"}


def test_images_and_text_do_not_compete():
    cluster = Cluster((Node("n1", {"H100": 1, "A100": 1}),))
    assert place([Request("t", ONE, 1), Request("i", A100, 1)], seen(cluster), cluster.max_trainers).nodes == {
        "t": "n1",
        "i": "n1",
    }


clusters = st.builds(
    lambda sizes, most: Cluster(
        tuple(Node(f"n{i}", {k: n for k, n in gpus.items() if n}) for i, gpus in enumerate(sizes)), most
    ),
    st.lists(st.fixed_dictionaries({"H100": st.integers(0, 8), "A100": st.integers(0, 4)}), max_size=4),
    st.none() | st.integers(0, 6),
)
demands = st.lists(st.tuples(st.sampled_from(GpuRequirement), st.integers(1, 6)), max_size=12)


@given(clusters, demands, st.integers(0, 7))
def test_no_gpu_is_leased_twice_and_every_wait_has_a_reason(
    cluster: Cluster, wanted: list[tuple[GpuRequirement, int]], running: int
):
    room = (
        sum(node.gpus.get("H100", 0) for node in cluster.nodes)
        if cluster.max_trainers is None
        else cluster.max_trainers
    )
    room = min(room, sum(node.gpus.get("H100", 0) for node in cluster.nodes))
    state = busy(cluster, min(running, room))
    requests = [Request(f"r{i}", requirement, hours) for i, (requirement, hours) in enumerate(wanted)]
    placed = place(requests, state, cluster.max_trainers)
    assert sorted([*placed.nodes, *placed.waits]) == sorted(r.key for r in requests)
    assert all(placed.waits.values())
    held = leased(state)
    for request in requests:
        if request.key in placed.nodes:
            key = (placed.nodes[request.key], request.requirement.gpu_type)
            held[key] = held.get(key, 0) + request.requirement.gpus
    assert all(held.get((n.node_id, kind), 0) <= count for n in cluster.nodes for kind, count in n.gpus.items())
    assert cluster.max_trainers is None or min(running, room) + len(placed.nodes) <= cluster.max_trainers


@given(clusters, demands)
def test_nobody_waits_where_there_is_room(cluster: Cluster, wanted: list[tuple[GpuRequirement, int]]):
    requests = [Request(f"r{i}", requirement, hours) for i, (requirement, hours) in enumerate(wanted)]
    placed = place(requests, seen(cluster), cluster.max_trainers)
    left = {(n.node_id, kind): count for n in cluster.nodes for kind, count in n.gpus.items()}
    for request in requests:
        if request.key in placed.nodes:
            left[placed.nodes[request.key], request.requirement.gpu_type] -= request.requirement.gpus
    if cluster.max_trainers is not None and len(placed.nodes) >= cluster.max_trainers:
        return
    for request in requests:
        if request.key in placed.waits:
            need = request.requirement
            assert all(count < need.gpus for (_, kind), count in left.items() if kind == need.gpu_type)
