"""Each training is asked for on the kind of machine that it is to have, and no more than there may be machines for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from tests.builders import START
from tourney_ray.core.models import GpuRequirement as Gpu
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.driver.asking import Asked, Bundle, asked, count, left
from tourney_ray.effects.cluster_file import ClusterFile, NodeType

NARROW = NodeType("narrow", {"H100": 1}, 0, 2, "p5.4xlarge", "n")
WIDE = NodeType("wide", {"H100": 8}, 0, 2, "p5.48xlarge", "w")
MACHINES = ClusterFile((NARROW, WIDE), 4)
LABELS = {"n1": "n", "n2": "n", "w1": "w", "w2": "w"}
ONE, FOUR, EIGHT = Gpu.H100_1X, Gpu.H100_4X, Gpu.H100_8X


def there(*names: str) -> list[Node]:
    return [Node(name, {"H100": 8 if name.startswith("w") else 1}) for name in names]


def lease(node: str, need: Gpu) -> Lease:
    return Lease(f"on {node}", "t", "task", "hotkey", 1, node, need.gpu_type, need.gpus, START)


def ask(demand: list[Gpu], *names: str, runs: tuple[Lease, ...] = (), given_up: tuple[str, ...] = ()) -> Asked:
    return asked(demand, there(*names), LABELS, runs, MACHINES, given_up)


@pytest.mark.parametrize(
    ("demand", "names", "bundles", "kinds"),
    [
        ([], ["w1"], {}, set()),
        ([ONE], [], {(ONE, "n"): 1}, {"narrow"}),
        ([ONE], ["w1"], {(ONE, "n"): 1}, {"narrow"}),
        ([ONE], ["w1", "n1"], {(ONE, "n"): 1}, set()),
        ([ONE] * 5, ["w1"], {(ONE, "n"): 2, (ONE, "w"): 3}, {"narrow"}),
        ([ONE] * 5, [], {(ONE, "n"): 2, (ONE, "w"): 3}, {"narrow", "wide"}),
        ([FOUR, FOUR, FOUR], ["w1"], {(FOUR, "w"): 3}, {"wide"}),
        ([FOUR, ONE], [], {(FOUR, "w"): 1, (ONE, "n"): 1}, {"narrow", "wide"}),
        ([EIGHT] * 3, ["w1"], {(EIGHT, "w"): 2}, {"wide"}),
        ([EIGHT] * 3 + [ONE] * 40, [], {(EIGHT, "w"): 2, (ONE, "n"): 2}, {"narrow", "wide"}),
        ([Gpu.A100], ["w1"], {}, set()),
    ],
)
def test_what_waits_is_asked_for_where_there_is_room_else_on_the_smallest_machine(
    demand: list[Gpu], names: list[str], bundles: dict[tuple[Gpu, str], int], kinds: set[str]
) -> None:
    found = ask(demand, *names)
    assert found.bundles == {Bundle(*bundle): number for bundle, number in bundles.items()}
    assert found.kinds == kinds


def test_what_runs_is_asked_for_where_it_runs() -> None:
    on_wide = lease("w1", ONE)
    assert ask([ONE], "w1", runs=(on_wide,)) == Asked(Counter([Bundle(ONE, "w")]), frozenset())
    assert ask([EIGHT, ONE], "w1", runs=(on_wide,)).kinds == {"wide"}, "the first has room for seven more only"


def test_what_runs_and_is_not_needed_any_more_is_not_asked_for() -> None:
    assert ask([], "w1", runs=(lease("w1", ONE),)).bundles == {}


def test_what_ran_on_a_node_that_is_gone_is_asked_for_anew() -> None:
    assert ask([FOUR], runs=(lease("w9", FOUR),)) == Asked(Counter([Bundle(FOUR, "w")]), frozenset({"wide"}))


def test_for_a_kind_that_is_given_up_any_other_does_as_well() -> None:
    assert ask([ONE], "w1", given_up=("narrow",)) == Asked(Counter([Bundle(ONE, "w")]), frozenset())
    assert ask([ONE], given_up=("narrow",)).kinds == {"wide"}
    assert ask([ONE], given_up=("narrow", "wide")) == Asked(Counter([Bundle(ONE)]), frozenset({"narrow"}))


def test_the_most_machines_of_all_kinds_together_count_too() -> None:
    few = replace(MACHINES, max_workers=1)
    assert asked([FOUR, ONE], (), {}, (), few, ()).bundles == {Bundle(FOUR, "w"): 1, Bundle(ONE, "w"): 1}
    assert left((), {}, few) == {"narrow": 1, "wide": 1}
    assert left(there("w1"), LABELS, few) == {"narrow": 0, "wide": 0}


def test_machines_are_known_by_their_label_else_by_their_gpus() -> None:
    assert count([Node("n1", {"H100": 8}), Node("other", {"H100": 8}), Node("head", {})], LABELS, MACHINES) == {
        "narrow": 1,
        "wide": 1,
    }
    own = ClusterFile(tuple(replace(WIDE, name=host, machine="", max_workers=1) for host in ("a", "b", "c")), 3)
    assert left(there("w1", "w2"), {}, own) == {"a": 0, "b": 0, "c": 1}


@given(
    st.lists(st.sampled_from(Gpu), max_size=40),
    st.frozensets(st.sampled_from(sorted(LABELS))),
    st.frozensets(st.sampled_from(("narrow", "wide"))),
    st.integers(0, 5),
)
def test_whatever_is_asked_for_fits_on_the_machines_that_there_may_be(
    demand: list[Gpu], names: frozenset[str], given_up: frozenset[str], most: int
) -> None:
    nodes, machines = there(*sorted(names)), replace(MACHINES, max_workers=most)
    found = asked(demand, nodes, LABELS, (), machines, given_up)
    wanted = Counter(bundle.need for bundle in found.bundles.elements())
    assert wanted <= Counter(demand)
    gpus = {"n": 2, "w": 16}
    for kind in gpus:
        assert sum(b.need.gpus * n for b, n in found.bundles.items() if b.machine == kind) <= gpus[kind]
    new = sum(free for free in left(nodes, LABELS, machines).values())
    assert not found.kinds or new > 0
