"""cluster.yaml is what Ray accepts, and what Ray does not look at is right as well. All of it offline."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tourney_ray.core.models import GpuRequirement

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"

GPUS = {
    "m7i.2xlarge": {},
    "p5.48xlarge": {"H100": 8},
    "p5.4xlarge": {"H100": 1},
    "p4d.24xlarge": {"A100": 8},
}
"""GPUs of the instance types, by the maker of the machines."""

CPUS = {"m7i.2xlarge": 8, "p5.48xlarge": 192, "p5.4xlarge": 16, "p4d.24xlarge": 96}

COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


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


def test_resources_are_the_machines_own(node_types: dict[str, Any]) -> None:
    for name, node in node_types.items():
        machine = node["node_config"]["InstanceType"]
        resources = dict(node["resources"])
        assert 0 < resources.pop("CPU") <= CPUS[machine], name
        assert resources.pop("GPU", 0) == sum(GPUS[machine].values()), name
        assert resources == GPUS[machine], name


def test_every_training_fits_on_some_machine(workers: dict[str, Any]) -> None:
    for need in GpuRequirement:
        assert any(node["resources"].get(need.gpu_type, 0) >= need.gpus for node in workers.values()), need


def test_counts_are_possible(cluster: dict[str, Any], node_types: dict[str, Any], workers: dict[str, Any]) -> None:
    for name, node in node_types.items():
        assert 0 <= node["min_workers"] <= node["max_workers"] <= cluster["max_workers"], name
    assert sum(node["min_workers"] for node in workers.values()) <= cluster["max_workers"]
    assert sum(node["max_workers"] for node in workers.values()) == cluster["max_workers"]
    assert node_types[cluster["head_node_type"]]["max_workers"] == 0


def test_no_training_lands_on_the_head(cluster: dict[str, Any], node_types: dict[str, Any]) -> None:
    assert set(node_types[cluster["head_node_type"]]["resources"]) == {"CPU"}


def test_containers_cannot_reach_the_machines_credentials(node_types: dict[str, Any]) -> None:
    for name, node in node_types.items():
        metadata = node["node_config"]["MetadataOptions"]
        assert metadata["HttpTokens"] == "required", name
        assert metadata["HttpPutResponseHopLimit"] == 1, name


def test_disks_are_encrypted_and_only_the_journals_survives(
    cluster: dict[str, Any], node_types: dict[str, Any]
) -> None:
    for name, node in node_types.items():
        (disk,) = node["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"]["Encrypted"], name
        assert disk["Ebs"]["DeleteOnTermination"] == (name != cluster["head_node_type"]), name


def test_ray_runs_beside_the_engine_not_in_it(cluster: dict[str, Any]) -> None:
    assert cluster["docker"] == {}


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


def test_what_is_copied_from_the_checkout_is_there(cluster: dict[str, Any]) -> None:
    for source in cluster["file_mounts"].values():
        assert source.startswith("~/.ray/") or (CLUSTER.parent / source).exists(), source


def test_commands_are_shell(cluster: dict[str, Any]) -> None:
    for key in COMMANDS:
        for command in cluster[key]:
            run = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
            assert run.returncode == 0, (key, command, run.stderr)
