"""Which waiting attempt goes to which node (RULES §6)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings, strategies as st

from tests.builders import START as NOW, Stage, leased, miners
from tests.core.arena import Arena
from tourney_ray.core.commands import Train
from tourney_ray.core.events import AttemptRunning
from tourney_ray.core.evolve import evolve
from tourney_ray.core.leases import Cluster, lease_runs
from tourney_ray.core.models import GpuRequirement, TournamentType
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.core.placement import place
from tourney_ray.core.queueing import Line, Placed, Request
from tourney_ray.core.room import LEEWAY
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


def alone(*requests: Request) -> list[Line]:
    """Each of a task of its own."""
    return [Line.of(replace(request, task_id=request.key)) for request in requests]


def placed(requests: list[Request], cluster: Cluster, held: int = 0) -> Placed:
    """Where they go on that cluster, with so many leases on it."""
    state = busy(cluster, held) if held else seen(cluster)
    return place(alone(*requests), state, cluster, NOW)


def test_the_longest_goes_first_and_of_equals_the_largest():
    requests = [Request("short", FOUR, 1), Request("small", FOUR, 2), Request("large", EIGHT, 2)]
    found = placed(requests, nodes(n1=8))
    assert found.nodes == {"large": "n1"}
    assert set(found.waits) == {"short", "small"}


def test_priority_goes_before_age_and_age_before_length():
    later = NOW + timedelta(hours=1)
    requests = [
        Request("long", ONE, 9, later),
        Request("old", ONE, 1, NOW),
        Request("organic", ONE, 1, later, priority=1),
    ]
    assert placed(requests, nodes(n1=1)).nodes == {"organic": "n1"}
    assert placed(requests[:2], nodes(n1=1)).nodes == {"old": "n1"}


def test_those_alike_keep_their_order():
    assert placed([Request("b", ONE, 1), Request("a", ONE, 1)], nodes(n1=1)).nodes == {"b": "n1"}


def test_the_fullest_node_that_fits_is_taken():
    cluster = nodes(n1=8, n2=4, n3=2)
    assert placed([Request("a", TWO, 1)], cluster).nodes == {"a": "n3"}
    assert placed([Request("a", FOUR, 1)], cluster).nodes == {"a": "n2"}
    assert placed([Request("a", ONE, 1), Request("b", EIGHT, 1)], cluster).nodes == {"a": "n3", "b": "n1"}


def test_what_no_node_could_ever_hold_says_so():
    found = placed([Request("big", EIGHT, 1), Request("image", A100, 1)], nodes(n1=4, n2=4))
    assert found.nodes == {}
    assert found.waits == {
        "big": "needs 8×H100 on one node: no node has that",
        "image": "needs 1×A100 on one node: no node has that",
    }


def test_no_more_trainers_than_the_machine_may_run():
    cluster = replace(nodes(n1=8), max_trainers=3)
    found = placed([Request("a", ONE, 2), Request("b", ONE, 1)], cluster, held=2)
    assert found.nodes == {"a": "n1"}
    assert found.waits == {"b": "3 trainers run, as many as this machine may"}


def test_images_and_text_do_not_compete():
    cluster = Cluster((Node("n1", {"H100": 1, "A100": 1}),))
    assert placed([Request("t", ONE, 1), Request("i", A100, 1)], cluster).nodes == {"t": "n1", "i": "n1"}


# --- the first in line (EASY backfilling)


def test_for_the_first_that_does_not_fit_a_node_is_kept():
    found = placed([Request("wide", FOUR, 6)], nodes(n1=4), held=1)
    (lease,) = busy(nodes(n1=4), 1).leases.values()
    free = f"free at {lease.until + LEEWAY:%F %T} UTC at the latest, behind {lease.attempt_id}"
    told = f"needs 4×H100 on one node: n1 is kept for it, {free}"
    assert (found.nodes, found.waits) == ({}, {"wide": told})


def test_what_ends_before_its_turn_may_start_there_and_nothing_else():
    short, long = Request("short", TWO, 1.9), Request("long", TWO, 2.1)
    wide = Request("wide", FOUR, 6)
    assert placed([wide, short], nodes(n1=4), held=1).nodes == {"short": "n1"}
    found = placed([wide, long], nodes(n1=4), held=1)
    assert found.nodes == {}
    assert found.waits["long"] == "needs 2×H100 on one node: n1 is kept for wide, and nothing else is free"


def test_what_it_leaves_over_may_be_had_for_longer():
    cluster, running = nodes(n1=6), [(NOW + timedelta(hours=3), Request("running", FOUR, 3))]
    requests = [Request("wide", FOUR, 9), Request("a", ONE, 8), Request("b", ONE, 7), Request("c", ONE, 6)]
    found = place(alone(*requests[:2], *requests[3:]), holding(cluster, running), cluster, NOW)
    assert found.nodes == {"a": "n1", "c": "n1"}
    two = Request("two", TWO, 8)
    found = place(alone(requests[0], two, *requests[1:]), holding(cluster, running), cluster, NOW)
    assert found.nodes == {"two": "n1"}
    running.append((NOW + timedelta(hours=4), Request("later", ONE, 4)))
    found = place(alone(*requests), holding(cluster, running), cluster, NOW)
    assert found.nodes == {"a": "n1"}
    assert found.waits["b"] == "needs 1×H100 on one node: all are leased"


def test_another_node_may_be_had_by_anybody():
    cluster, running = nodes(n1=8, n2=1), [(NOW + timedelta(hours=3), Request("running", ONE, 3))]
    requests = alone(Request("wide", EIGHT, 9), Request("narrow", ONE, 8), Request("other", ONE, 7))
    found = place(requests, holding(cluster, running), cluster, NOW)
    assert found.nodes == {"narrow": "n2"}
    assert found.waits["other"] == "needs 1×H100 on one node: n1 is kept for wide, and nothing else is free"


def test_what_holds_other_gpus_is_not_waited_for():
    cluster, running = Cluster((Node("n1", {"H100": 4, "A100": 1}),)), [(NOW, Request("image", A100, 1))]
    running.append((NOW + timedelta(hours=1), Request("text", ONE, 1)))
    found = place(alone(Request("wide", FOUR, 6)), holding(cluster, running), cluster, NOW)
    assert "n1 is kept for it, free at 2026-01-01 01:02:00 UTC at the latest, behind text" in found.waits["wide"]


def test_the_node_that_is_free_first_is_kept():
    cluster = nodes(n1=8, n2=8)
    first = [Request("long", EIGHT, 9), Request("short", EIGHT, 3), Request("wide", EIGHT, 1)]
    found = placed(first, cluster)
    assert found.nodes == {"long": "n1", "short": "n2"}
    assert found.waits["wide"].startswith("needs 8×H100 on one node: n2 is kept for it, free at 2026-01-01 03:02:00")


def test_what_is_overdue_is_expected_to_take_as_long_again():
    cluster = nodes(n1=4)
    state = busy(cluster, 1)
    (lease,) = state.leases.values()
    due, hour = lease.until + LEEWAY, timedelta(hours=1)
    found = place(alone(Request("wide", FOUR, 6)), state, cluster, due + hour)
    assert f"free at {due + 2 * hour:%F %T} UTC" in found.waits["wide"]


def test_the_time_limit_counts_from_the_containers_start():
    arena = Arena(miners(16), cluster=nodes(n1=4)).open().until_active()
    start = next(c for c in arena.plan().commands if isinstance(c, Train))
    arena.do(start)
    (lease,) = arena.stage.state.leases.values()
    running = AttemptRunning(
        tournament_id=start.tournament_id,
        task_id=start.spec.task_id,
        hotkey=start.spec.hotkey,
        attempt_id=start.spec.attempt_id,
    )
    assert lease_runs(State(), running, NOW) == State(), "one whose lease has ended"
    later = evolve(arena.stage.state, running, NOW + timedelta(minutes=7))
    assert later.leases[lease.attempt_id].until == NOW + timedelta(hours=2, minutes=7)


# --- clusters that grow


def test_what_could_be_launched_is_said():
    eight = [Request("big", EIGHT, 1)]
    assert placed(eight, replace(nodes(n1=4), launchable=(("H100", 8),))).waits == {
        "big": "needs 8×H100 on one node: no node has that yet; one can be launched"
    }
    assert placed(eight, replace(nodes(n1=4), launchable=(("H100", 4), ("A100", 8)))).waits == {
        "big": "needs 8×H100 on one node: no node has that, and none can be launched"
    }


def test_a_narrow_one_leaves_a_wide_node_alone_while_a_narrow_node_can_be_launched():
    cluster = replace(nodes(n1=8), launchable=(("H100", 1),))
    found = placed([Request("narrow", ONE, 1), Request("pair", TWO, 1)], cluster)
    assert found.nodes == {"pair": "n1"}
    assert found.waits == {"narrow": "needs 1×H100 on one node: a node as small as that can be launched"}
    assert placed([Request("narrow", ONE, 1)], replace(nodes(n1=8), launchable=())).nodes == {"narrow": "n1"}
    found = placed([Request("narrow", ONE, 2), Request("wide", EIGHT, 1)], cluster)
    assert found.nodes == {"wide": "n1"}, "what waits for a node of its own keeps no other"


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
    found = place(alone(*requests), state, cluster, NOW)
    assert sorted([*found.nodes, *found.waits]) == sorted(r.key for r in requests)
    assert all(found.waits.values())
    held = leased(state)
    for request in requests:
        if request.key in found.nodes:
            key = (found.nodes[request.key], request.requirement.gpu_type)
            held[key] = held.get(key, 0) + request.requirement.gpus
    assert all(held.get((n.node_id, kind), 0) <= count for n in cluster.nodes for kind, count in n.gpus.items())
    assert cluster.max_trainers is None or min(running, room) + len(found.nodes) <= cluster.max_trainers


@given(clusters, demands)
def test_nobody_waits_where_there_is_room(cluster: Cluster, wanted: list[tuple[GpuRequirement, int]]):
    requests = [Request(f"r{i}", requirement, hours) for i, (requirement, hours) in enumerate(wanted)]
    found = place(alone(*requests), seen(cluster), cluster, NOW)
    left = {(n.node_id, kind): count for n in cluster.nodes for kind, count in n.gpus.items()}
    for request in requests:
        if request.key in found.nodes:
            left[found.nodes[request.key], request.requirement.gpu_type] -= request.requirement.gpus
    if cluster.max_trainers is not None and len(found.nodes) >= cluster.max_trainers:
        return
    for request in requests:
        if request.key in found.waits and "is kept for" not in found.waits[request.key]:
            need = request.requirement
            assert all(count < need.gpus for (_, kind), count in left.items() if kind == need.gpu_type)


arrivals = st.lists(
    st.tuples(st.sampled_from((ONE, TWO, FOUR, EIGHT)), st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=12
)


@settings(max_examples=40)
@given(arrivals)
def test_whatever_arrives_later_the_first_in_line_starts_in_time(wanted: list[tuple[GpuRequirement, int, int]]):
    """Played by the hour on one node: each starts no later than it was told first."""
    cluster = nodes(n1=8)
    waiting = [
        Request(f"r{i}", requirement, hours, NOW + timedelta(hours=hour))
        for i, (requirement, hours, hour) in enumerate(wanted)
    ]
    told, running = dict[str, datetime](), list[tuple[datetime, Request]]()
    for tick in range(2 * 24 * 6):
        now = NOW + timedelta(minutes=30 * tick)
        running = [(end, request) for end, request in running if end > now]
        here = [request for request in waiting if request.since <= now]
        state = holding(cluster, running)
        found = place(alone(*here), state, cluster, now)
        for request in here:
            if request.key in found.nodes:
                assert now <= told.get(request.key, now)
                running.append((now + timedelta(hours=request.hours), request))
                waiting.remove(request)
            elif told_now := re.search(r"kept for it, free at (.+) UTC", found.waits[request.key]):
                told.setdefault(request.key, datetime.fromisoformat(told_now[1]).replace(tzinfo=UTC) + 2 * TICK)
        if not waiting:
            return
    raise AssertionError(f"{waiting} never started")


TICK = timedelta(minutes=30)


def holding(cluster: Cluster, running: list[tuple[datetime, Request]]) -> State:
    """A state in which these hold leases on the cluster's first node until those moments."""
    state, node = seen(cluster), cluster.nodes[0].node_id
    leases = {
        r.key: Lease(r.key, "t", "task", r.key, 1, node, r.requirement.gpu_type, r.requirement.gpus, until)
        for until, r in running
    }
    held = dict(Counter({(node, kind): n for kind, n in Counter(r.requirement.gpu_type for _, r in running).items()}))
    for lease in leases.values():
        held[node, lease.gpu_type] += lease.gpus - 1
    return replace(state, leases=leases, held=held)
