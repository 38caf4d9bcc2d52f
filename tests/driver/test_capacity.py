"""Nodes are believed as far as Ray can hand their GPUs out, and what no machine can ever have is told at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders import START
from tourney_ray.config import ClusterChoice, Settings
from tourney_ray.core.models import GpuRequirement as Gpu, TournamentType
from tourney_ray.core.nodes import Node
from tourney_ray.core.rules import Rules
from tourney_ray.driver import capacity
from tourney_ray.driver.asking import Bundle
from tourney_ray.driver.capacity import Outlook, Seen, check_capacity, seen_nodes
from tourney_ray.errors import ConfigError

MACHINES = """\
max_workers: 4
provider: {type: aws}
head_node_type: head
available_node_types:
  head: {resources: {CPU: 4, A100: 8}, node_config: {}}
  narrow: {resources: {GPU: 1, H100: 1}, max_workers: 2, node_config: {}}
  wide: {resources: {GPU: 4, H100: 4}, max_workers: 2, node_config: {}}
  never: {resources: {GPU: 8, H100: 8, A100: 1}, max_workers: 0, node_config: {}}
"""


@pytest.fixture
def machines(tmp_path: Path) -> Path:
    path = tmp_path / "machines.yaml"
    path.write_text(MACHINES)
    return path


def node(node_id: str, **resources: float) -> dict[str, Any]:
    return {"NodeID": node_id, "Resources": {"CPU": 8.0, **resources}}


def test_a_node_has_what_it_says_while_ray_counts_as_many_gpus() -> None:
    seen = seen_nodes([node("a", H100=8.0, GPU=8.0), node("b", H100=2.0, A100=1.0, GPU=4.0), node("head")])
    assert [n.gpus for n in seen.nodes] == [{"H100": 8}, {"H100": 2, "A100": 1}, {}]
    assert seen.lies == {}
    assert seen.machines == {}


def test_a_node_says_which_kind_of_machine_it_is() -> None:
    assert seen_nodes([node("a") | {"Labels": {"tourney/machine": "h100x8", "ray.io/node-id": "a"}}]).machines == {
        "a": "h100x8"
    }


@pytest.mark.parametrize(
    ("resources", "used", "told"),
    [
        ({"H100": 8.0, "GPU": 4.0}, {"H100": 4}, "claims 8×H100, but Ray counts 4 GPUs there: 4 are used"),
        ({"H100": 8.0}, {}, "claims 8×H100, but Ray counts 0 GPUs there: none of them is used"),
        (
            {"H100": 4.0, "A100": 4.0, "GPU": 4.0},
            {},
            "claims 4×A100 and 4×H100, but Ray counts 4 GPUs there: none of them is used; start Ray there with "
            "--num-gpus=8 if it has them, else with fewer in --resources",
        ),
    ],
    ids=["too-many", "none", "whose"],
)
def test_a_node_that_claims_too_much_is_used_for_what_it_has_and_named(
    resources: dict[str, float], used: dict[str, int], told: str
) -> None:
    seen = seen_nodes([node("liar", **resources), node("honest", H100=1.0, GPU=1.0)])
    assert seen.nodes == (Node("liar", used), Node("honest", {"H100": 1}))
    assert seen.lies.keys() == {"liar"}
    assert f"node liar {told}" in seen.lies["liar"]


def test_a_node_whose_gpus_have_no_type_is_not_used_and_named() -> None:
    seen = seen_nodes([node("plain", GPU=2.0)])
    assert seen.nodes == (Node("plain", {}),)
    told = (
        "node plain has 2 GPUs of no type: none of them is used; start Ray there with --resources='{\"H100\": 2}' or "
    )
    rest = "--resources='{\"A100\": 2}', or with --num-gpus=0 where nothing is to be trained"
    assert seen.lies == {"plain": told + rest}


@pytest.mark.parametrize(
    ("demand", "lacking"),
    [
        ([Gpu.H100_1X, Gpu.H100_4X], set()),
        ([Gpu.H100_8X, Gpu.A100, Gpu.A100], {"needs.8×H100", "needs.1×A100"}),
    ],
)
def test_what_no_machine_can_have_is_told(demand: Sequence[Gpu], lacking: set[str], machines: Path) -> None:
    outlook = Outlook(machines)
    told = outlook.shortages(demand, ())
    assert told.keys() == lacking
    for why in told.values():
        assert str(machines) in why
        assert "in vain; add a node type with" in why
    if lacking:
        assert "1×A100 on one node: 2 trainings wait in vain" in told["needs.1×A100"]
        assert "8×H100 on one node: 1 training waits in vain" in told["needs.8×H100"]


def test_a_node_that_is_there_counts_whether_or_not_the_file_knows_it(machines: Path) -> None:
    assert Outlook(machines).shortages([Gpu.A100], [Node("n", {"A100": 1})]) == {}


def test_what_ray_up_left_on_the_head_counts_where_no_file_is_named(
    machines: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "BOOTSTRAP", machines)
    assert capacity.cluster_file(settings) == machines
    named = settings.model_copy(update={"cluster": ClusterChoice(file=Path("/etc/other.yaml"))})
    assert capacity.cluster_file(named) == Path("/etc/other.yaml")
    monkeypatch.setattr(capacity, "BOOTSTRAP", Path("~/nothing/here.yaml"))
    assert capacity.cluster_file(settings) is None


def test_without_a_file_everything_may_still_come() -> None:
    assert Outlook(None).shortages([Gpu.H100_8X], ()) == {}
    assert Outlook(None).ask([Gpu.H100_8X] * 99, Seen(), (), (), START) == {Bundle((WIDEST,)): 99}
    assert Outlook(None).still(Seen(), START) is None


def test_a_file_is_read_again_when_it_changes_and_a_broken_one_is_told_of(machines: Path) -> None:
    outlook = Outlook(machines)
    assert outlook.shortages([Gpu.H100_8X], ())
    _change(machines, MACHINES.replace("max_workers: 0", "max_workers: 1"), 1)
    assert outlook.shortages([Gpu.H100_8X], ()) == {}
    _change(machines, "[", 2)
    assert "is not YAML" in outlook.shortages([Gpu.H100_8X], ())["cluster.file"]
    machines.unlink()
    assert "No such file" in outlook.shortages([Gpu.H100_8X], ())["cluster.file"]


NARROW, WIDE, WIDEST = ("H100", 1), ("H100", 4), ("H100", 8)


@dataclass
class Hours:
    """An outlook, asked by the minute while machines come and go."""

    outlook: Outlook

    def at(self, minute: int, there: Sequence[tuple[str, int]], *demand: Gpu) -> tuple[tuple[str, int], ...] | None:
        """What may still be started, with these machines there and that demand."""
        now = START + timedelta(minutes=minute)
        seen = Seen(tuple(Node(f"n{i}", dict([kind])) for i, kind in enumerate(there)))
        self.outlook.ask(demand, seen, (), (), now)
        return self.outlook.still(seen, now)


@pytest.fixture
def hours(machines: Path) -> Hours:
    return Hours(Outlook(machines))


def test_machines_are_counted_on_until_they_are_there_or_do_not_come(hours: Hours) -> None:
    assert hours.at(0, ()) == (NARROW, WIDE)
    assert hours.at(0, [WIDE, WIDE], Gpu.H100_1X) == (NARROW,)
    assert hours.at(14, [WIDE, WIDE], Gpu.H100_1X) == (NARROW,)
    assert hours.at(15, [WIDE, WIDE], Gpu.H100_1X) == ()
    assert hours.at(16, [WIDE, WIDE, NARROW], Gpu.H100_1X) == (NARROW,), "one came at last"
    assert hours.at(40, [WIDE, WIDE, NARROW], Gpu.H100_1X) == (NARROW,), "no second one is needed"


def test_one_that_did_not_come_is_asked_for_last_until_nothing_is_asked_for_any_more(hours: Hours) -> None:
    hours.at(0, (), Gpu.H100_1X)
    assert hours.at(15, (), Gpu.H100_1X) == (WIDE,)
    assert hours.at(16, (), Gpu.H100_1X) == (WIDE,), "a wide one is asked for meanwhile"
    assert hours.at(31, (), Gpu.H100_1X) == (), "that did not come either"
    assert hours.at(32, ()) == (NARROW, WIDE)


def test_one_that_was_given_up_is_tried_again_after_an_hour(hours: Hours) -> None:
    hours.at(0, [WIDE, WIDE], Gpu.H100_1X)
    assert hours.at(74, [WIDE, WIDE], Gpu.H100_1X) == ()
    assert hours.at(75, [WIDE, WIDE], Gpu.H100_1X) == (NARROW,)
    assert hours.at(90, [WIDE, WIDE], Gpu.H100_1X) == ()


def test_nobody_waits_for_a_machine_that_takes_the_last_place_of_another(hours: Hours, machines: Path) -> None:
    _change(machines, MACHINES.replace("max_workers: 4", "max_workers: 2"), 1)
    hours.at(0, [WIDE])
    assert hours.at(0, [WIDE], Gpu.H100_4X, Gpu.H100_4X, Gpu.H100_1X) == (WIDE,), "no narrow one is asked for"


def test_who_asks_for_wide_machines_does_not_wait_for_narrow_ones(hours: Hours) -> None:
    assert hours.at(0, (), Gpu.H100_4X) == (NARROW, WIDE)
    assert hours.at(15, (), Gpu.H100_4X) == (NARROW,)
    assert hours.at(16, [WIDE], Gpu.H100_4X) == (NARROW, WIDE)
    assert hours.at(60, [WIDE], Gpu.H100_4X, Gpu.H100_1X) == (NARROW, WIDE), "nobody has asked for a narrow one before"
    assert hours.at(74, [WIDE], Gpu.H100_4X, Gpu.H100_1X) == (NARROW, WIDE)
    assert hours.at(75, [WIDE], Gpu.H100_4X, Gpu.H100_1X) == (WIDE,)


def test_one_that_went_again_is_waited_for_as_long_as_the_first(hours: Hours) -> None:
    hours.at(0, [NARROW], Gpu.H100_1X, Gpu.H100_1X)
    hours.at(10, (), Gpu.H100_1X, Gpu.H100_1X)
    assert hours.at(14, [NARROW], Gpu.H100_1X, Gpu.H100_1X) == (NARROW, WIDE)
    assert hours.at(20, [NARROW], Gpu.H100_1X, Gpu.H100_1X) == (NARROW, WIDE)
    assert hours.at(29, [NARROW], Gpu.H100_1X, Gpu.H100_1X) == (WIDE,)


def test_a_file_that_cannot_be_read_says_nothing_of_what_may_come(machines: Path) -> None:
    machines.write_text("[")
    assert Outlook(machines).still(Seen(), START) is None


@pytest.mark.parametrize(
    ("types", "rules", "refused"),
    [
        ((TournamentType.TEXT,), Rules(), ""),
        (
            (TournamentType.TEXT,),
            Rules(knockout_model_range_b=(2.0, 50.0)),
            "could train what may be drawn: knockout InstructTextTask, models of 40 to 50 B: 8×H100 on one node;",
        ),
        ((TournamentType.IMAGE,), Rules(), "could train what may be drawn: group ImageTask: 1×A100 on one node;"),
    ],
)
def test_a_tournament_that_no_machine_could_train_is_refused_before_it_starts(
    types: tuple[TournamentType, ...], rules: Rules, refused: str, settings: Settings, machines: Path
) -> None:
    choice = settings.model_copy(update={"types": types, "rules": rules, "cluster": ClusterChoice(file=machines)})
    if not refused:
        check_capacity(choice)
        return
    with pytest.raises(ConfigError, match=refused):
        check_capacity(choice)
    check_capacity(choice.model_copy(update={"cluster": ClusterChoice()}))


def _change(path: Path, text: str, seconds: int) -> None:
    """Write the file, as if so many seconds later: a file system may not tell two moments apart."""
    at = path.stat().st_mtime + seconds
    path.write_text(text)
    os.utime(path, (at, at))
