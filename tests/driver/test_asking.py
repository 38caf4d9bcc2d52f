"""Machines are asked for as a whole, by their kind, and no more than there may be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from tests.driver.rays_scheduler import rays_answer
from tourney_ray.core.models import GpuRequirement as Gpu
from tourney_ray.core.nodes import Node
from tourney_ray.driver.asking import Asked, Bundle, Held, Machines, asked
from tourney_ray.effects.cluster_file import ClusterFile, NodeType

NARROW = NodeType("narrow", {"H100": 1}, 0, 2, "p5.4xlarge", "n")
WIDE = NodeType("wide", {"H100": 8}, 0, 2, "p5.48xlarge", "w")
FILE = ClusterFile((NARROW, WIDE), 4)
LABELS = {"n1": "n", "n2": "n", "w1": "w", "w2": "w"}
ONE, FOUR, EIGHT = Gpu.H100_1X, Gpu.H100_4X, Gpu.H100_8X


def there(*names: str) -> list[Node]:
    return [Node(name, {"H100": 1 if name.startswith("n") else 8}) for name in names]


def ask(
    demand: list[Gpu],
    *names: str,
    held: tuple[Held, ...] = (),
    given_up: tuple[str, ...] = (),
    unfit: tuple[str, ...] = (),
    most: int = 4,
) -> Asked:
    file = replace(FILE, max_workers=most)
    return asked(demand, held, Machines(file, there(*names), LABELS, unfit, given_up))


def machines_of(found: Asked) -> str:
    """The labels of all machines that are asked for, each as a whole."""
    sizes = {"n": (("H100", 1),), "w": (("H100", 8),)}
    assert all(bundle.gpus == sizes[bundle.machine] for bundle in found.bundles)
    return "".join(sorted(bundle.machine for bundle in found.bundles.elements()))


@pytest.mark.parametrize(
    ("demand", "names", "wanted", "kinds"),
    [
        ([], ["w1"], "", set()),
        ([ONE], [], "n", {"narrow"}),
        ([ONE], ["w1"], "n", {"narrow"}),
        ([ONE], ["w1", "n1"], "n", set()),
        ([ONE] * 5, ["w1"], "nnw", {"narrow"}),
        ([ONE] * 5, [], "nnw", {"narrow", "wide"}),
        ([FOUR, FOUR, FOUR], ["w1"], "ww", {"wide"}),
        ([FOUR, ONE], [], "nw", {"narrow", "wide"}),
        ([EIGHT] * 3, ["w1"], "ww", {"wide"}),
        ([EIGHT] * 3 + [ONE] * 40, [], "nnww", {"narrow", "wide"}),
        ([Gpu.A100], ["w1"], "", set()),
    ],
)
def test_what_waits_is_asked_for_where_there_is_room_else_on_the_smallest_machine(
    demand: list[Gpu], names: list[str], wanted: str, kinds: set[str]
) -> None:
    found = ask(demand, *names)
    assert (machines_of(found), found.kinds) == (wanted, kinds)


def test_what_runs_is_asked_for_where_it_runs() -> None:
    on_wide = ("w1", "H100", 1)
    found = ask([ONE], "w1", held=(on_wide,))
    assert (machines_of(found), found.kinds) == ("w", set())
    assert ask([EIGHT, ONE], "w1", held=(on_wide,)).kinds == {"wide"}, "the first has room for seven more only"


def test_gpus_that_are_free_here_and_there_do_not_do_for_a_wide_one() -> None:
    found = ask([FOUR, EIGHT], "w1", held=(("w1", "H100", 4),))
    assert (machines_of(found), found.kinds) == ("ww", {"wide"})


def test_what_runs_and_is_not_needed_any_more_is_not_asked_for() -> None:
    assert machines_of(ask([], "w1", held=(("w1", "H100", 1),))) == ""


def test_what_ran_on_a_node_that_is_gone_is_asked_for_anew() -> None:
    found = ask([FOUR], held=(("w9", "H100", 4),))
    assert (machines_of(found), found.kinds) == ("w", {"wide"})


def test_a_kind_that_is_given_up_is_asked_for_last() -> None:
    beside = ask([ONE], "w1", given_up=("narrow",))
    assert (machines_of(beside), beside.kinds) == ("w", set())
    assert ask([ONE], given_up=("narrow",)).kinds == {"wide"}
    last = ask([ONE], given_up=("narrow", "wide"))
    assert (machines_of(last), last.kinds) == ("n", {"narrow"})


def test_of_a_machine_that_claims_too_much_what_it_has_is_asked_for() -> None:
    found = asked([ONE], [("w1", "H100", 1)], Machines(FILE, [Node("w1", {"H100": 4})], LABELS))
    assert found.bundles == {Bundle((("H100", 4),), "w"): 1}


def test_a_node_that_cannot_start_anything_has_no_room() -> None:
    assert ask([ONE], "n1", "w1", unfit=("n1",)).kinds == {"narrow"}
    assert machines_of(ask([ONE], "n1", held=(("n1", "H100", 1),), unfit=("n1",))) == "n"


def test_of_a_node_that_is_none_of_the_files_ray_knows_nothing_and_is_asked_for_nothing() -> None:
    found = ask([EIGHT, EIGHT, ONE], "other", "w1", held=(("other", "H100", 8), ("w1", "H100", 8)))
    assert machines_of(found) == "nw"
    assert machines_of(ask([FOUR], "other")) == "", "it has room there"


def test_the_most_machines_of_all_kinds_together_count_too() -> None:
    assert machines_of(ask([FOUR, ONE], most=1)) == "w"
    assert ask([EIGHT, ONE], "w1", held=(("w1", "H100", 4),), most=2).coming == {"wide"}, (
        "nobody waits for a narrow one"
    )
    few = Machines(replace(FILE, max_workers=1), labels=LABELS)
    assert few.left() == {"narrow": 1, "wide": 1}
    assert replace(few, nodes=there("w1")).left() == {"narrow": 0, "wide": 0}


def test_machines_are_known_by_their_label_else_by_their_gpus() -> None:
    odd = [Node("n1", {"H100": 8}), Node("other", {"H100": 8}), Node("head", {})]
    assert Machines(FILE, odd, LABELS).count() == {"narrow": 1}
    own = ClusterFile(tuple(replace(WIDE, name=host, machine="", max_workers=1) for host in ("a", "b", "c")), 3)
    assert Machines(own, there("w1", "w2")).left() == {"a": 0, "b": 0, "c": 1}


@given(
    st.lists(st.sampled_from(Gpu), max_size=40),
    st.frozensets(st.sampled_from(("n1", "n2", "w1", "w2", "other"))),
    st.lists(st.tuples(st.sampled_from(("n1", "w1", "other")), st.sampled_from((ONE, FOUR, EIGHT))), max_size=4),
    st.frozensets(st.sampled_from(("narrow", "wide"))),
    st.frozensets(st.sampled_from(("n1", "w1"))),
    st.integers(0, 5),
)
def test_rays_own_scheduler_starts_those_machines_for_it_and_no_others(
    demand: list[Gpu],
    names: frozenset[str],
    runs: list[tuple[str, Gpu]],
    given_up: frozenset[str],
    unfit: frozenset[str],
    most: int,
) -> None:
    free = {node.node_id: node.gpus["H100"] for node in there(*names)}
    held: list[Held] = []
    for node, need in runs:
        if free.get(node, 0) >= need.gpus:
            free[node] -= need.gpus
            held.append((node, "H100", need.gpus))
            demand = [*demand, need]
    found = ask(demand, *sorted(names), held=(*held,), given_up=(*given_up,), unfit=(*unfit,), most=most)
    managed = sorted(names & LABELS.keys())
    if len(managed) > most:
        return  # somebody lowered the bound while they run
    launched, is_infeasible = rays_answer(
        found.bundles, {name: LABELS[name] for name in managed}, FILE.node_types, most
    )
    assert not is_infeasible
    assert launched.keys() == found.kinds
