"""The virtual cluster: which machines a spec describes, and what becomes of them."""

from __future__ import annotations

import pytest

from tourney_ray.core.models import Trained
from tourney_ray.core.nodes import Node
from tourney_ray.errors import ConfigError
from tourney_ray.simulation.cluster import Container, parse_nodes


def container(attempt_id: str = "a", indices: tuple[int, ...] = (0, 1)) -> Container:
    return Container(attempt_id, "H100", indices, "sha256:0", 10.0, Trained(checkpoint="c", seconds=1.0))


def test_a_spec_names_so_many_nodes_of_so_many_gpus():
    cluster = parse_nodes("2x8H100, 1x1A100")
    assert cluster.seen() == (
        Node("node-00", {"H100": 8}),
        Node("node-01", {"H100": 8}),
        Node("node-02", {"A100": 1}),
    )


@pytest.mark.parametrize("spec", ["", "8H100", "0x8H100", "1x0H100", "1x8H200", "1x8H100,", "1x8h100", "-1x8H100"])
def test_what_describes_no_nodes_is_refused_with_an_example(spec: str):
    with pytest.raises(ConfigError) as refused:
        parse_nodes(spec)
    assert "describes no nodes" in refused.value.message
    assert "2x8H100" in str(refused.value.hint)


def test_a_container_holds_its_gpus_wherever_its_machine_is():
    cluster = parse_nodes("1x4H100")
    (machine,) = cluster.machines.values()
    machine.containers["a"] = container()
    assert machine.free("H100") == [2, 3]
    assert machine.free("A100") == []
    machine.go(power=True)
    assert cluster.seen() == ()
    assert cluster.running("a") is machine
    assert cluster.running("b") is None


def test_a_machine_without_power_forgets_what_ran_and_what_was_done():
    cluster = parse_nodes("1x4H100")
    (machine,) = cluster.machines.values()
    machine.containers["a"] = container()
    machine.outcomes["b"] = Trained(checkpoint="c", seconds=1.0)
    machine.go(power=False)
    assert cluster.running("a") is None
    assert machine.outcomes == {}
    assert not machine.up
