"""Where checkpoints are evaluated, and on which GPUs where they need some."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.builders import data, miners
from tests.core.arena import Arena
from tourney_ray.core.beside import Seated, evaluation_node, seated
from tourney_ray.core.commands import Evaluate, Train
from tourney_ray.core.leases import Cluster, Seat
from tourney_ray.core.models import GpuRequirement, TaskType, TournamentType
from tourney_ray.core.nodes import Node
from tourney_ray.core.placement import place
from tourney_ray.core.queueing import Line, Request
from tourney_ray.core.room import EVALUATION, LEEWAY
from tourney_ray.core.state import State

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE_GPU = Cluster((Node("n1", {"H100": 1}),), seats={})
NODES = {
    "a": Node("a", {"H100": 8}),
    "b": Node("b", {"H100": 8}),
    "gone": Node("gone", {"H100": 8}, lost_at=NOW),
}
STATE = State(nodes=NODES | {"c": Node("c", {"A100": 1})})
FREE = Cluster(seats={})


@pytest.mark.parametrize(
    ("trained_on", "unfit", "node"),
    [
        ("a", (), "a"),
        ("b", ("a",), "b"),
        ("a", ("a",), None),
        ("gone", (), None),
        ("never seen", (), None),
    ],
)
def test_a_checkpoint_is_evaluated_where_it_lies_as_long_as_that_can_be(
    trained_on: str, unfit: tuple[str, ...], node: str | None
) -> None:
    assert evaluation_node(trained_on, NODES, unfit) == node


def due(hotkey: str, trained_on: str, gpu_type: str = "H100") -> Evaluate:
    """The evaluation of a checkpoint that lies on that node."""
    command = Evaluate("t", "task", TaskType.INSTRUCT, hotkey, f"task.{hotkey}.1", "out", data(), 1, 0)
    return replace(command, trained_on=trained_on, gpu_type=gpu_type)


def trained_once(cluster: Cluster, kind: TournamentType = TournamentType.TEXT) -> Arena:
    """A tournament whose first checkpoint waits to be evaluated."""
    arena = Arena(miners(8), cluster=cluster).open(kind).until_active()
    for _ in range(2):
        arena.step()
    return arena


def holding(**held: int) -> State:
    """The state in which so many H100s of those nodes are leased."""
    return replace(STATE, held={(node, "H100"): count for node, count in held.items()})


def nodes(found: Seated) -> list[str | None]:
    return [command.node for command in found.commands]


def test_each_gets_a_gpu_of_its_tasks_type_on_its_own_node() -> None:
    found = seated([due("m0", "a"), due("m1", "a"), due("m2", "c", "A100")], STATE, FREE)
    assert nodes(found) == ["a", "a", "c"]
    assert sorted(found.seats.values()) == [("a", "H100"), ("a", "H100"), ("c", "A100")]
    assert found.waits == {}


def test_where_its_own_is_busy_lost_or_unfit_another_node_serves() -> None:
    state = holding(a=8, b=3)
    assert nodes(seated([due("m0", "a"), due("m1", "gone")], state, FREE)) == ["b", "b"]
    assert nodes(seated([due("m0", "b")], STATE, replace(FREE, unfit_to_evaluate=["b"]))) == ["a"]


def test_of_others_the_fullest_serves() -> None:
    assert nodes(seated([due("m0", "gone")], holding(a=2, b=7), FREE)) == ["b"]


@pytest.mark.parametrize(
    ("state", "cluster", "why"),
    [
        (holding(a=8, b=8), FREE, "all are in use"),
        (State(), FREE, "no node has that"),
        (STATE, replace(FREE, unfit_to_evaluate=["a", "b"]), "nothing can be evaluated for now where there are any"),
    ],
)
def test_who_finds_none_waits_and_says_why(state: State, cluster: Cluster, why: str) -> None:
    found = seated([due("m0", "a")], state, cluster)
    assert (found.commands, found.seats) == ([], {})
    assert found.waits == {"task.m0": f"its evaluation needs 1×H100: {why}"}


def test_those_under_way_keep_theirs_whatever_is_free() -> None:
    running, other = due("m0", "a"), due("m1", "a")
    seat: Seat = ("b", "H100")
    found = seated([running, other], holding(a=7, b=8), replace(FREE, seats={running.command_id: seat}))
    assert nodes(found) == ["b", "a"]
    assert seated([running], State(), replace(FREE, seats={running.command_id: seat})).commands[0].node == "b"


def test_without_the_wish_for_gpus_nothing_is_seated() -> None:
    found = trained_once(replace(ONE_GPU, seats=None)).plan()
    assert [c.node for c in found.commands if isinstance(c, Evaluate)] == [None]
    assert len(found.demand) == 7


def test_an_evaluation_goes_before_every_training_and_is_asked_for_like_one() -> None:
    arena = trained_once(ONE_GPU)
    found = arena.plan()
    (evaluation,) = found.commands
    assert isinstance(evaluation, Evaluate)
    assert evaluation.node == "n1"
    assert found.demand == [GpuRequirement.H100_1X] * 8
    arena.step()
    assert isinstance(arena.plan().commands[0], Train)


def test_one_that_has_no_gpu_waits_for_one() -> None:
    arena = trained_once(ONE_GPU)
    arena.cluster = replace(ONE_GPU, seats={"evaluate/another": ("n1", "H100")})
    found = arena.plan()
    assert found.commands == []
    assert "its evaluation needs 1×H100: all are in use" in found.waits.values()


def test_what_it_holds_is_expected_back_when_a_node_is_kept() -> None:
    need = Request("wide", GpuRequirement.H100_8X, 1.0)
    state = State(nodes={"a": NODES["a"]})
    cluster = Cluster(seats={"evaluate/x": ("a", "H100"), "evaluate/y": ("c", "A100")})
    waits = place([Line.of(need)], state, cluster, NOW).waits
    at = f"{NOW + EVALUATION:%F %T}"
    assert waits["wide"].endswith(f"a is kept for it, free at {at} UTC at the latest, behind evaluate/x")
    narrow = Request(
        "narrow", GpuRequirement.H100_1X, (EVALUATION - LEEWAY - timedelta(minutes=1)) / timedelta(hours=1)
    )
    assert place([Line.of(need), Line.of(narrow)], state, cluster, NOW).nodes == {"narrow": "a"}


def test_images_are_evaluated_on_what_they_are_trained_on() -> None:
    arena = trained_once(Cluster((Node("n1", {"A100": 1}), Node("n2", {"H100": 8})), seats={}), TournamentType.IMAGE)
    found = arena.plan()
    assert [c.node for c in found.commands if isinstance(c, Evaluate)] == ["n1"]
    assert found.demand[-1] is GpuRequirement.A100
