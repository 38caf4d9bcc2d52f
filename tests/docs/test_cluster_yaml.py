"""cluster.yaml is what Ray accepts, and what Ray does not look at is right as well. All of it offline."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray._private.label_utils import validate_label_key, validate_label_value, validate_node_labels
from ray.autoscaler._private.util import prepare_config, validate_config

from tourney_ray.core.models import GpuRequirement
from tourney_ray.driver.ray_schema import ray_complaints
from tourney_ray.effects.cluster_checks import COMMANDS
from tourney_ray.effects.host_checks import OLDEST_TOOLKIT

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster.yaml"
FILES = (CLUSTER, ROOT / "deploy" / "on-premise.yaml")


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


@pytest.fixture
def node_types(cluster: dict[str, Any]) -> dict[str, Any]:
    return cluster["available_node_types"]


@pytest.fixture
def workers(cluster: dict[str, Any], node_types: dict[str, Any]) -> dict[str, Any]:
    return {name: node for name, node in node_types.items() if name != cluster["head_node_type"]}


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


@pytest.mark.parametrize(
    ("path", "value"),
    [(("worker_type",), {}), (("available_node_types", "h100x8", "resource"), {}), (("max_workers",), -1)],
    ids=["unknown-key", "unknown-key-of-a-type", "negative"],
)
def test_ray_would_have_refused_a_mistake(cluster: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    inner = cluster
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValidationError, match=r"is not valid|Additional properties|less than the minimum"):
        validate_config(prepare_config(cluster))


def test_every_training_fits_on_some_machine(workers: dict[str, Any]) -> None:
    for need in GpuRequirement:
        assert any(node["resources"].get(need.gpu_type, 0) >= need.gpus for node in workers.values()), need


def test_disks_are_encrypted_and_go_with_their_machine(node_types: dict[str, Any]) -> None:
    for name, node in node_types.items():
        (disk,) = node["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"]["Encrypted"], name
        assert disk["Ebs"]["DeleteOnTermination"], name


def test_what_has_to_last_lies_on_a_volume_of_the_heads_zone(
    cluster: dict[str, Any], node_types: dict[str, Any]
) -> None:
    head = node_types[cluster["head_node_type"]]
    zone = head["node_config"]["Placement"]["AvailabilityZone"]
    assert cluster["provider"]["availability_zone"].split(",")[0] == zone
    comments = CLUSTER.read_text().split("cluster_name:")[0]
    assert f"--availability-zone {zone}" in comments
    attach, start = cluster["head_start_ray_commands"][-2:]
    assert attach.endswith("attach-state tourney-state /var/lib/tourney")
    assert "Value=tourney-state}" in comments
    assert "RAY_gcs_storage_path=/var/lib/tourney/gcs" in start


def test_nodes_have_labels_that_ray_takes(node_types: dict[str, Any]) -> None:
    for name, node in node_types.items():
        validate_node_labels(node["labels"])
        for key, value in node["labels"].items():
            assert validate_label_key(key) is None
            validate_label_value(value)
        assert node["labels"] == {"tourney/machine": name}


def test_a_worker_is_looked_over_before_it_joins(cluster: dict[str, Any]) -> None:
    assert cluster["worker_setup_commands"][-1].endswith("tourney check-host")
    assert '--claimed "$RAY_OVERRIDE_RESOURCES"' in cluster["worker_start_ray_commands"][-2]
    version = ".".join(map(str, OLDEST_TOOLKIT))
    for path in FILES:
        assert version in path.read_text(), path


def test_ray_is_root_where_builds_have_to_be_bounded(cluster: dict[str, Any]) -> None:
    assert "sudo -E env HOME=$HOME" in cluster["worker_start_ray_commands"][-1]
    assert "sudo" not in cluster["head_start_ray_commands"][-1]


def test_every_ray_process_asks_for_the_token(cluster: dict[str, Any]) -> None:
    starts = [c for key in COMMANDS for c in cluster[key] if "ray start" in c]
    assert len(starts) == 2
    for start in starts:
        before, _, _ = start.partition("ray start")
        assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token" in before
    assert "~/.ray/auth_token" in cluster["file_mounts"]


def test_the_head_remembers_and_hides_its_dashboard(cluster: dict[str, Any]) -> None:
    start = cluster["head_start_ray_commands"][-1]
    assert "RAY_gcs_storage=rocksdb RAY_gcs_storage_path=" in start
    assert "--dashboard-host=127.0.0.1" in start


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_ray_accepts_both_files(path: Path) -> None:
    assert ray_complaints(path) == []


def test_what_ray_refuses_is_told_with_its_place(cluster: dict[str, Any], tmp_path: Path) -> None:
    cluster["available_node_types"]["h100x8"]["resource"] = {}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(cluster))
    (told,) = ray_complaints(tmp_path / "c.yaml")
    assert told.startswith("available_node_types.h100x8: Additional properties are not allowed ('resource'")
    cluster["available_node_types"]["h100x8"].pop("resource")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(cluster | {"head_node_type": "boss"}))
    assert ray_complaints(tmp_path / "c.yaml") == ["`head_node_type` must be one of `available_node_types`."]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_copied_from_the_checkout_is_there(path: Path) -> None:
    for source in yaml.safe_load(path.read_text())["file_mounts"].values():
        assert source.startswith("~/.ray/") or (ROOT / source).exists(), source


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_commands_are_shell(path: Path) -> None:
    cluster = yaml.safe_load(path.read_text())
    for key in COMMANDS:
        for command in cluster.get(key, ()):
            run = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
            assert run.returncode == 0, (key, command, run.stderr)
