"""What a cluster file says of its machines, and how it is told what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tourney_ray.effects.cluster_file import ClusterFile, NodeType, read_cluster_file
from tourney_ray.errors import ConfigError

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"
RENTED = """\
max_workers: 3
provider: {type: aws}
head_node_type: head
available_node_types:
  head: {resources: {CPU: 4}, node_config: {InstanceType: small}}
  wide: {resources: {CPU: 8, GPU: 8, H100: 8}, min_workers: 1, max_workers: 2, node_config: {InstanceType: big}}
  any: {resources: {CPU: 8}, node_config: {}}
"""
OWN = """\
provider:
  type: local
  head_ip: 10.0.0.1
  worker_ips: [10.0.0.2, 10.0.0.3]
  gpus_by_host: {10.0.0.2: {H100: 8}, 10.0.0.3: {A100: 4}}
"""


def read(text: str, folder: Path) -> ClusterFile:
    path = folder / "machines.yaml"
    path.write_text(text)
    return read_cluster_file(path)


def test_rented_machines_are_those_that_are_not_the_head(tmp_path: Path) -> None:
    wide, other = NodeType("wide", {"H100": 8}, 1, 2, "big"), NodeType("any", {}, 0, 3, "")
    assert read(RENTED, tmp_path) == ClusterFile((wide, other), 3, 5)
    assert read(RENTED + "idle_timeout_minutes: 60\n", tmp_path).idle_minutes == 60


def test_a_kind_has_the_label_that_its_nodes_have(tmp_path: Path) -> None:
    labelled = RENTED.replace("  any: {", '  any: {labels: {"tourney/machine": some}, ')
    assert [kind.machine for kind in read(labelled, tmp_path).node_types] == ["", "some"]


def test_each_of_ones_own_machines_is_a_kind_of_its_own(tmp_path: Path) -> None:
    types = NodeType("10.0.0.2", {"H100": 8}, 0, 1, ""), NodeType("10.0.0.3", {"A100": 4}, 0, 1, "")
    assert read(OWN, tmp_path) == ClusterFile(types, 2)


def test_ours_has_three_kinds() -> None:
    cluster = read_cluster_file(CLUSTER)
    assert [(t.name, t.gpus, t.instance_type) for t in cluster.node_types] == [
        ("h100x8", {"H100": 8}, "p5.48xlarge"),
        ("h100x1", {"H100": 1}, "p5.4xlarge"),
        ("a100x8", {"A100": 8}, "p4d.24xlarge"),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "is not YAML: while parsing a flow node"),
        ("\x00", "is not YAML: unacceptable character"),
        ("- 1", "a cluster file is a mapping of keys"),
        ("{}", "provider: is missing"),
        ("provider: aws", "provider: has to be a mapping of keys"),
        (RENTED.replace("max_workers: 3", ""), "max_workers: is missing, and bounds the bill"),
        (
            RENTED.replace("any: {", 'any: {labels: {"tourney/machine": "a b"}, '),
            "any: labels.tourney/machine: 'a b' is no label",
        ),
        (RENTED + "idle_timeout_minutes: long\n", "idle_timeout_minutes: 'long' is no number of 0 or more"),
        (RENTED.replace("_type: head", "_type: boss"), "head_node_type: 'boss' is none of available_node_types"),
        (RENTED.replace("H100: 8", "H100: many"), "available_node_types.wide: resources.H100: 'many' is no number"),
        (
            RENTED.replace("min_workers: 1", "min_workers: -1"),
            "available_node_types.wide: min_workers: -1 is no number",
        ),
        (RENTED.replace("max_workers: 2", "max_workers: yes"), "available_node_types.wide: max_workers: True is no"),
        (RENTED.replace("node_config: {}", "x: 1"), "available_node_types.any: node_config: is missing"),
        (
            OWN.replace("[10.0.0.2, 10.0.0.3]", "10.0.0.2"),
            "provider.worker_ips: the list of worker machines is missing",
        ),
        (OWN.replace(", 10.0.0.3: {A100: 4}", ""), "names other machines than worker_ips: 10.0.0.3"),
        (OWN.replace("A100: 4", "A100: 0.5"), "provider.gpus_by_host.10.0.0.3.A100: 0.5 is no number"),
    ],
)
def test_what_is_wrong_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text, tmp_path)
    assert str(tmp_path / "machines.yaml") in refused.value.message
    assert complaint in refused.value.message
    assert refused.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: No such file"):
        read_cluster_file(tmp_path / "gone.yaml")
