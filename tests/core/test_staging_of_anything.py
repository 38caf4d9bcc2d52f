"""What is staged where, whatever is asked for, lies somewhere or is being staged already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, strategies as st

from tests.builders import START as NOW
from tests.core.test_placement import nodes, seen
from tests.core.test_staging import DOWN, lying
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.nodes import Lease
from tourney_ray.core.placement import place
from tourney_ray.core.queueing import Line, Request
from tourney_ray.core.sizes import places
from tourney_ray.core.state import State

NODES = ("n1", "n2", "n3")
Asked = list[tuple[GpuRequirement, int, str]]
"""What each task needs, for how many hours, and the entrants of its trainings; a space needs no image."""
asked: st.SearchStrategy[Asked] = st.lists(
    st.tuples(st.sampled_from(GpuRequirement), st.integers(1, 4), st.text("abcd ", min_size=1, max_size=8)), max_size=6
)
machines = st.fixed_dictionaries(dict.fromkeys(NODES, st.integers(1, 8)))


keys = st.builds("r{}.{}".format, st.integers(0, 5), st.integers(0, 7))


def lines_of(wanted: Asked) -> list[Line]:
    """A line for each task."""
    return [
        Line.of(
            *(
                Request(f"r{i}.{j}", need, hours, task_id=f"r{i}", entrant=None if who == " " else ("t", who))
                for j, who in enumerate(entrants)
            )
        )
        for i, (need, hours, entrants) in enumerate(wanted)
    ]


def under_way(stagings: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """What is being staged, by task."""
    found: dict[str, dict[str, list[str]]] = {}
    for key, node in stagings.items():
        found.setdefault(key.partition(".")[0], {})[key] = [node]
    return found


def running_on(cluster: Cluster, gpus: dict[str, int], running: list[str]) -> State:
    """A state in which trainings of one GPU run on these nodes, as far as there is room."""
    where = [node for node, count in Counter(running).items() for _ in range(min(count, gpus[node]))]
    leases = {
        f"x{i}": Lease(f"x{i}", "t", "x", f"x{i}", 1, node, "H100", 1, NOW + timedelta(hours=1 + i))
        for i, node in enumerate(where)
    }
    return replace(seen(cluster), leases=leases, held=dict(Counter((node, "H100") for node in where)))


@given(machines, asked, st.none() | st.integers(0, 4), st.lists(st.sampled_from(NODES)))
def test_what_is_begun_goes_on_as_long_as_nothing_else_changes(
    gpus: dict[str, int], wanted: Asked, most: int | None, running: list[str]
):
    cluster, lines = replace(nodes(**gpus), staged={}, max_trainers=most), lines_of(wanted)
    state = running_on(cluster, gpus, running)
    first = place(lines, state, cluster, NOW)
    again = place(lines, state, replace(cluster, staging=under_way(first.stagings)), NOW)
    assert again.stagings == first.stagings


@given(machines, asked, asked, st.none() | st.integers(0, 4), st.lists(st.sampled_from(NODES)))
def test_what_is_begun_goes_on_whoever_comes_in_between_but_for_who_is_first_in_line(
    gpus: dict[str, int], wanted: Asked, more: Asked, most: int | None, running: list[str]
):
    cluster = replace(nodes(**gpus), staged={}, max_trainers=most)
    state = running_on(cluster, gpus, running)
    known = place(lines_of(wanted), state, cluster, NOW).stagings
    lines = lines_of([(need, hours, entrants + "abcd" * 4) for need, hours, entrants in wanted] + more)
    found = place(lines, state, replace(cluster, staging=under_way(known)), NOW).stagings
    assert known.keys() <= found.keys()
    moved = {key for key, node in known.items() if found[key] != node}
    assert len(moved) <= 1
    taken = Counter(node for _, node in known.items() | found.items())
    assert all(count <= places({"H100": gpus[node]}) for node, count in taken.items())


@given(
    machines,
    asked,
    st.frozensets(st.tuples(keys, st.sampled_from(NODES))),
    st.dictionaries(keys, st.sampled_from(NODES)),
    st.frozensets(st.sampled_from(NODES)),
    st.none() | st.integers(0, 4),
)
def test_each_starts_where_it_is_staged_or_says_why_not(
    gpus: dict[str, int],
    wanted: Asked,
    staged: frozenset[tuple[str, str]],
    begun: dict[str, str],
    unfit: frozenset[str],
    most: int | None,
):
    around = {"unfit": dict.fromkeys(unfit, DOWN), "max_trainers": most}
    cluster = replace(nodes(**gpus), staged=lying(staged), staging=under_way(begun), **around)
    lines = lines_of(wanted)
    requests = [request for line in lines for request in line.requests]
    found = place(lines, seen(cluster), cluster, NOW)
    assert found == place(lines, seen(cluster), cluster, NOW)
    assert sorted([*found.nodes, *found.waits]) == sorted(r.key for r in requests)
    assert all(found.waits.values())
    assert set(found.stagings) <= set(found.waits)
    assert most is None or len(found.nodes) <= most
    before = Counter(begun.values())
    for node, count in Counter(found.stagings.values()).items():
        assert count <= max(places({"H100": gpus[node]}), before[node])
    taken, builds = Counter[str](), Counter[tuple[str, str]]()
    for request in requests:
        if node := found.nodes.get(request.key):
            assert (request.key, node) in staged
            assert node not in unfit
            assert request.entrant is None
            taken[node] += request.requirement.gpus
        if request.key in found.stagings and request.entrant:
            builds[request.entrant] += 1
    assert all(count <= gpus[node] for node, count in taken.items())
    assert set(builds.values()) <= {1}
