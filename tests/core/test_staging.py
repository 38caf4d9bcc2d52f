"""What is staged where, what starts, and what everything else waits for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import START as NOW, miners
from tests.core.arena import Arena
from tests.core.test_placement import EIGHT, FOUR, ONE, TWO, alone, busy, holding, nodes, seen
from tourney_ray.core.commands import Stage as StageCommand
from tourney_ray.core.leases import Cluster, Staged
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.nodes import Lease
from tourney_ray.core.placement import place
from tourney_ray.core.plan import Planner
from tourney_ray.core.queueing import Placed, Request
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.staging import put
from tourney_ray.core.state import State

DOWN = "its engine does not answer"


def built(*keys: str, requirement: GpuRequirement = ONE) -> list[Request]:
    """Requests whose images are known."""
    return [Request(key, requirement, 1) for key in keys]


def unbuilt(key: str, hotkey: str) -> Request:
    return Request(key, ONE, 1, entrant=("t", hotkey))


def on(cluster: Cluster, *pairs: str, held: int = 0, unfit: str = "") -> tuple[Cluster, int]:
    """The cluster with `key@node` staged and so many leases."""
    staged = lying((key, node) for key, _, node in (pair.partition("@") for pair in pairs))
    return replace(cluster, staged=staged, unfit={unfit: DOWN} if unfit else {}), held


def lying(pairs: Iterable[tuple[str, str]]) -> dict[str, Staged]:
    """What lies where, of trainings that need no image; `task.7` belongs to a task, any other key has its own."""
    staged: dict[str, Staged] = {}
    for key, node in pairs:
        task_id = key.partition(".")[0]
        staged[task_id] = put(staged.get(task_id, {}), key, node, "")
    return staged


def busy_until(cluster: Cluster, need: GpuRequirement, **hours: int) -> State:
    """A state in which such a training runs on each of these nodes for so many hours more."""
    leases = {
        node: Lease(node, "t", "task", node, 1, node, need.gpu_type, need.gpus, NOW + timedelta(hours=left))
        for node, left in hours.items()
    }
    return replace(seen(cluster), leases=leases, held={(node, need.gpu_type): need.gpus for node in hours})


def placed(requests: list[Request], where: tuple[Cluster, int]) -> Placed:
    cluster, held = where
    return place(alone(*requests), busy(cluster_of_leases(cluster), held), cluster, NOW)


def cluster_of_leases(cluster: Cluster) -> Cluster:
    """The same machines before anything was staged on them."""
    return Cluster(cluster.nodes, cluster.max_trainers)


# --- starts


def test_what_is_staged_starts_on_the_fullest_node_that_has_it():
    found = placed(built("a"), on(nodes(n1=8, n2=4, n3=2), "a@n1", "a@n2"))
    assert (found.nodes, found.stagings, found.waits) == ({"a": "n2"}, {}, {})


def test_what_is_staged_elsewhere_is_staged_where_there_is_room():
    found = placed(built("a"), on(nodes(n1=1, n2=2), "a@n1", held=1))
    assert (found.nodes, found.stagings) == ({}, {"a": "n2"})
    assert found.waits == {"a": "its image and data are being staged on n2"}


def test_room_is_kept_for_what_is_being_staged():
    cluster, _ = on(nodes(n1=4), "small@n1")
    requests = [Request("large", FOUR, 6), Request("small", TWO, 1)]
    found = place(alone(*requests), seen(cluster), cluster, NOW)
    assert (found.nodes, found.stagings) == ({}, {"large": "n1"})
    assert found.waits["small"].startswith("needs 2×H100 on one node: n1 is kept for it, free at 2026-01-01 06:02:00")


def test_what_is_on_a_node_that_is_gone_is_nowhere():
    cluster = replace(nodes(n1=1), staged=lying([("a", "n9")]))
    assert place(alone(*built("a")), seen(cluster), cluster, NOW).stagings == {"a": "n1"}


def test_what_has_begun_goes_on_where_it_is():
    cluster, _ = on(nodes(n1=8, n2=4))
    assert place(alone(*built("a")), seen(cluster), cluster, NOW).stagings == {"a": "n2"}
    under_way = replace(cluster, staging={"a": {"a": ["n1"]}})
    assert place(alone(*built("a")), seen(cluster), under_way, NOW).stagings == {"a": "n1"}


def test_what_has_begun_on_a_node_that_is_gone_is_begun_anew():
    cluster = replace(nodes(n1=1), staged={}, staging={"a": {"a": ["n9"]}})
    assert place(alone(*built("a")), seen(cluster), cluster, NOW).stagings == {"a": "n1"}


def test_who_is_being_staged_takes_one_place_and_not_two():
    cluster = replace(nodes(n1=8), staged={}, staging={"a": {"a": ["n1"]}, "b": {"b": ["n1"]}})
    found = place(alone(*built("a", "b", "c", "d", "e")), seen(cluster), cluster, NOW)
    assert found.stagings == dict.fromkeys("abcd", "n1")


def test_what_was_begun_on_a_node_that_is_gone_takes_no_place():
    cluster = replace(nodes(n1=1), staged={}, staging={"a": {"a": ["n9"]}, "b": {"b": ["n9"]}})
    assert place(alone(*built("a", "b")), seen(cluster), cluster, NOW).stagings == {"a": "n1", "b": "n1"}


def test_a_node_that_shrank_under_what_is_begun_takes_no_place_of_another():
    begun = {key: {key: ["n1"]} for key in "abcd"}
    cluster = replace(nodes(n1=1, n2=1), staged={}, staging=begun)
    assert place(alone(*built(*"abcde")), seen(cluster), cluster, NOW).stagings["e"] == "n2"


@pytest.mark.parametrize(("where", "stagings"), [(["n1"], {"wide": "n1"}), ([], {})])
def test_who_is_first_in_line_goes_on_where_it_is_begun_while_its_node_has_no_place(
    where: list[str], stagings: dict[str, str]
):
    begun = {key: {key: ["n2"]} for key in "abcd"}
    cluster = replace(nodes(n1=8, n2=8), staged={}, staging=begun | ({"wide": {"wide": where}} if where else {}))
    state = busy_until(cluster, EIGHT, n1=9, n2=1)
    found = place(alone(Request("wide", EIGHT, 6), *built(*"abcd")), state, cluster, NOW)
    assert {key: node for key, node in found.stagings.items() if key == "wide"} == stagings


def test_who_is_first_in_line_is_not_moved_while_its_image_is_built_for_it():
    cluster = replace(nodes(n1=1, n2=1), staged={}, staging={"w": {"w": ["n1"]}})
    state = busy_until(cluster, ONE, n1=9, n2=1)
    found = place(alone(unbuilt("w", "h")), state, cluster, NOW)
    assert found.stagings == {"w": "n1"}
    assert place(alone(*built("w")), state, cluster, NOW).stagings == {"w": "n2"}


def test_an_image_goes_on_being_built_where_that_is_begun_whoever_comes_first():
    cluster = replace(nodes(n1=1, n2=1), staged={}, staging={"late": {"late": ["n2"]}})
    found = place(alone(unbuilt("early", "h"), unbuilt("late", "h")), seen(cluster), cluster, NOW)
    assert found.stagings == {"late": "n2"}
    assert found.waits["early"] == "the image of h is being built on n2"


def test_what_has_begun_elsewhere_goes_on_there_though_room_is_here():
    cluster, held = on(nodes(n1=1, n2=2), held=1)
    under_way = replace(cluster, staging={"a": {"a": ["n1"]}})
    found = placed(built("a", "b"), (under_way, held))
    assert found.stagings == {"a": "n1", "b": "n2"}


def test_who_is_first_in_line_waits_for_a_place_on_the_node_that_is_kept():
    cluster, running = nodes(n1=2, n2=1), [(NOW + timedelta(hours=1), Request("running", TWO, 1))]
    cluster = replace(cluster, staged={}, staging={"b": {"b": ["n1"]}, "c": {"c": ["n1"]}})
    requests = alone(Request("a", TWO, 3), Request("b", ONE, 2), Request("c", ONE, 2))
    found = place(requests, holding(cluster, running), cluster, NOW)
    assert found.stagings == {"b": "n1", "c": "n1"}
    assert "n1 is kept for it" in found.waits["a"]


def test_what_is_begun_for_nobody_else_is_planned_once():
    arena = Arena(miners(16), cluster=replace(nodes(n1=8), staged={})).open().until_active()
    planner, given = Planner(), (arena.stage.state, arena.stage.at, Agenda(), arena.cluster)
    first, second = ([c for c in planner.plan(*given).commands if isinstance(c, StageCommand)] for _ in range(2))
    assert first
    assert all(one is other for one, other in zip(first, second, strict=True))


# --- turns

LATER = [(NOW + timedelta(hours=1), Request("running", FOUR, 1))]
"""On the first node."""


def test_who_is_wide_and_staged_elsewhere_has_the_room_that_is_free_kept_for_it():
    cluster, _ = on(nodes(n1=8, n2=8), "wide@n1", "a@n1", "a@n2", "b@n1", "b@n2")
    requests = alone(Request("wide", EIGHT, 6), Request("a", ONE, 6), Request("b", ONE, 1))
    found = place(requests, holding(cluster, LATER), cluster, NOW)
    assert (found.nodes, found.stagings) == ({"a": "n1", "b": "n1"}, {"wide": "n2"})


@pytest.mark.parametrize(
    ("lies", "begun", "waits"),
    [
        (["w@n1"], {}, "n1 is kept for it, free at 2026-01-01 01:02:00 UTC"),
        ([], {"w": {"w": ["n1"]}}, "its image and data are being staged on n1"),
    ],
)
def test_who_is_narrow_lets_others_have_that_room_and_keeps_its_turn_where_it_is_begun(
    lies: list[str], begun: dict[str, dict[str, list[str]]], waits: str
):
    cluster, _ = on(nodes(n1=2, n2=2), *lies, "a@n1", "a@n2", "b@n1", "b@n2")
    running = [(NOW + timedelta(hours=1), Request("running", ONE, 1))]
    requests = alone(Request("w", TWO, 6), Request("a", ONE, 6), Request("b", ONE, 1))
    found = place(requests, holding(cluster, running), replace(cluster, staging=begun), NOW)
    assert found.nodes == {"a": "n2", "b": "n1"}
    assert waits in found.waits["w"]


def test_who_is_staged_on_unfit_nodes_only_has_room_kept_for_it_elsewhere():
    cluster, _ = on(nodes(n1=2, n2=2), "w@n1", "b@n2", "c@n2", unfit="n1")
    requests = alone(Request("w", TWO, 6), Request("b", ONE, 6), Request("c", ONE, 6))
    found = place(requests, seen(cluster), cluster, NOW)
    assert (found.nodes, found.stagings) == ({}, {"w": "n2", "b": "n1", "c": "n1"})


def test_who_waits_for_its_image_has_room_kept_for_it():
    begun = {"other": {"other": ["n1"]}}
    cluster = replace(nodes(n1=1, n2=8), staged=lying([("a", "n2")]), staging=begun)
    requests = [unbuilt("other", "h"), replace(unbuilt("wide", "h"), requirement=EIGHT, hours=6), Request("a", ONE, 1)]
    found = place(alone(*requests), seen(cluster), cluster, NOW)
    assert (found.nodes, found.stagings) == ({}, {"other": "n1"})
    assert found.waits["wide"] == "the image of h is being built on n1"
    assert "n2 is kept for wide" in found.waits["a"]


# --- ahead


def test_what_fits_nowhere_now_is_staged_where_the_fewest_wait():
    cluster, held = on(nodes(n1=1, n2=1), "a@n1", held=2)
    found = placed(built("a", "b", "c"), (cluster, held))
    assert (found.nodes, found.stagings) == ({}, {"b": "n2", "c": "n1"})
    waits = found.waits
    assert "needs 1×H100 on one node: n1 is kept for it" in waits.pop("a")
    assert waits == {
        "b": "its image and data are being staged on n2",
        "c": "its image and data are being staged on n1",
    }


def test_for_whom_a_node_is_kept_is_staged_there_whatever_else_lies_there():
    cluster, running = nodes(n1=8), [(NOW + timedelta(hours=1), Request("running", EIGHT, 1))]
    cluster = replace(cluster, staged=lying([("x", "n1"), ("y", "n1")]))
    found = place(alone(*built("first", "x", "y", requirement=EIGHT)), holding(cluster, running), cluster, NOW)
    assert found.stagings == {"first": "n1"}


def test_what_is_begun_keeps_its_place_whoever_has_room_there():
    running = [(NOW + timedelta(hours=1), Request(need.value, need, 1)) for need in (ONE, TWO)]
    cluster = replace(nodes(n1=4, n2=4), staged={}, staging={"two": {"two": ["n1"]}})
    requests = [Request("two", TWO, 6), *built("a", "b", "c", "d")]
    found = place(alone(*requests), holding(cluster, running), cluster, NOW)
    assert found.stagings == {"two": "n1", "a": "n1", "b": "n2", "c": "n2"}
    assert found.waits["d"] == "its image and data are staged once a node with room is through with others"


def test_no_node_stages_more_than_two_at_a_time_or_one_for_two_gpus():
    ahead = placed(built("a", "b", "c"), on(nodes(n1=1), held=1))
    assert ahead.stagings == {"a": "n1", "b": "n1"}
    assert ahead.waits["c"] == "needs 1×H100 on one node: all are leased"
    roomy = placed(built("a", "b", "c", "d", "e", "f"), on(nodes(n1=8)))
    assert roomy.stagings == dict.fromkeys("abcd", "n1")
    assert roomy.waits["e"] == "its image and data are staged once a node with room is through with others"


def test_no_more_trainers_than_the_machine_may_run_and_the_others_are_staged():
    cluster = replace(nodes(n1=8), max_trainers=1, staged=lying([("a", "n1"), ("b", "n1")]))
    found = placed(built("a", "b", "c"), (cluster, 0))
    assert (found.nodes, found.stagings) == ({"a": "n1"}, {"c": "n1"})
    assert found.waits["b"] == "1 trainers run, as many as this machine may"


def test_what_no_node_could_ever_hold_is_staged_nowhere():
    found = placed(built("big", requirement=EIGHT), on(nodes(n1=4)))
    assert (found.nodes, found.stagings) == ({}, {})
    assert found.waits == {"big": "needs 8×H100 on one node: no node has that"}


# --- images


def test_an_image_is_built_in_one_place_and_its_other_trainings_wait_for_it():
    requests = [unbuilt("t1.a", "a"), unbuilt("t2.a", "a"), unbuilt("t1.b", "b")]
    found = placed(requests, on(nodes(n1=1, n2=2)))
    assert found.stagings == {"t1.a": "n1", "t1.b": "n2"}
    assert found.waits["t2.a"] == "the image of a is being built on n1"


def test_what_lies_there_does_not_start_before_its_image_is_on_record():
    found = placed([unbuilt("a", "a")], on(nodes(n1=8, n2=1), "a@n2"))
    assert (found.nodes, found.stagings) == ({}, {"a": "n2"})
    ahead = placed([unbuilt("a", "a")], on(nodes(n1=1, n2=1), "a@n1", held=2))
    assert ahead.stagings == {"a": "n1"}


# --- nodes that cannot


def test_nothing_starts_on_an_unfit_node_and_another_is_preferred():
    found = placed(built("a"), on(nodes(n1=1, n2=8), "a@n1", unfit="n1"))
    assert (found.nodes, found.stagings) == ({}, {"a": "n2"})


def test_an_unfit_node_is_tried_where_there_is_no_other():
    found = placed(built("a"), on(nodes(n1=1), "a@n1", unfit="n1"))
    assert (found.nodes, found.stagings) == ({}, {"a": "n1"})
    assert found.waits == {"a": f"its image and data are being staged on n1: {DOWN}"}


def test_nothing_is_staged_ahead_on_an_unfit_node_while_there_is_another():
    assert placed(built("a", "b"), on(nodes(n1=1, n2=1), held=2, unfit="n1")).stagings == {"a": "n2", "b": "n2"}
