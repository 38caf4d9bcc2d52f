"""What a cluster file has to say beyond Ray's own schema: machines as they are, and nothing that harms their owner.

Pure but for reading the file. What Ray itself would refuse is `driver.ray_schema`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tourney_ray.effects.cluster_file import GPU_TYPES, LOCAL, ClusterFile, read_cluster_file, read_document

COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
"""Keys of commands that `ray up` runs on the machines, in its order."""

START = re.compile(r"\bray start\b")
STOP = re.compile(r"\bray stop\b")
TOKEN = ("RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN_PATH=")
LEAST_IDLE_MINUTES = 15.0
"""A rented machine boots, installs and is staged in about ten minutes; one that is given back sooner never trains."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What an instance type has, by the maker of the machines."""

    cpus: int
    gpus: Mapping[str, int]


MACHINES: Mapping[str, Machine] = {
    "p5.48xlarge": Machine(192, {"H100": 8}),
    "p5.4xlarge": Machine(16, {"H100": 1}),
    "p4d.24xlarge": Machine(96, {"A100": 8}),
    "p4de.24xlarge": Machine(96, {"A100": 8}),
    "m7i.2xlarge": Machine(8, {}),
}
"""Instance types that are known here. Of any other only what the file itself says can be compared."""


def complaints(path: Path) -> list[str]:
    """All that is wrong with a cluster file, a sentence each. Raises `ConfigError` as reading it does."""
    cluster, document = read_cluster_file(path), read_document(path)
    found = [*_about_counts(cluster), *_about_commands(document)]
    if document["provider"]["type"] == LOCAL:
        found += _about_shared_hosts(document)
    else:
        found += _about_rented(document)
        if cluster.idle_minutes < LEAST_IDLE_MINUTES:
            least = f"booting and staging take: {LEAST_IDLE_MINUTES:g} or more"
            found.append(f"idle_timeout_minutes: {cluster.idle_minutes:g} is less than {least}")
    if document.get("docker"):
        found.append("docker: Ray would run in a container; trainers' containers need the machine's own engine")
    return found


def _about_counts(cluster: ClusterFile) -> Iterator[str]:
    for kind in cluster.node_types:
        if kind.min_workers > kind.max_workers:
            yield f"{kind.name}: min_workers {kind.min_workers} is more than max_workers {kind.max_workers}"
    least = sum(kind.min_workers for kind in cluster.node_types)
    if least > cluster.max_workers:
        yield f"max_workers: {cluster.max_workers} is less than all min_workers together, {least}"
    most = sum(kind.max_workers for kind in cluster.node_types)
    if most > cluster.max_workers:
        yield (
            f"max_workers: {cluster.max_workers} is less than all node types together, {most}: Ray starts nothing at "
            "all for a demand that its choice of machines cannot meet"
        )


def _about_commands(document: Mapping[str, Any]) -> Iterator[str]:
    for key, command in _commands(document):
        if START.search(command) and not all(word in command for word in TOKEN):
            yield f"{key}: `ray start` without {' and '.join(TOKEN)} lets anybody in who reaches its port"
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        if not any(START.search(command) for command in document.get(key) or ()):
            yield f"{key}: nothing starts Ray, or Ray's own commands do, which know no token"


def _about_shared_hosts(document: Mapping[str, Any]) -> Iterator[str]:
    """Hosts of one's own are shared with others, and with other Rays of theirs."""
    for key, command in _commands(document):
        if STOP.search(command):
            yield f"{key}: `ray stop` ends every Ray on a shared host, whoever's it is"
    for command in document.get("head_start_ray_commands") or ():
        if START.search(command):
            for option in ("--port", "--temp-dir"):
                if f"{option}=" not in command:
                    yield f"head_start_ray_commands: no {option}: another Ray on a shared host may have the usual one"


def _about_rented(document: Mapping[str, Any]) -> Iterator[str]:
    head = document["head_node_type"]
    for name, node in document["available_node_types"].items():
        yield from _about_resources(name, node)
        if document["provider"]["type"] == "aws":
            metadata = node["node_config"].get("MetadataOptions") or {}
            if metadata.get("HttpTokens") != "required" or metadata.get("HttpPutResponseHopLimit") != 1:
                yield f"{name}: containers could read the machine's credentials: HttpTokens required, hop limit 1"
    if node := document["available_node_types"][head]:
        if set(node["resources"]) & {"GPU", *GPU_TYPES}:
            yield f"{head}: the head has GPUs, so trainings would run beside the journal"
        if node.get("max_workers", 0):
            yield f"{head}: max_workers has to be 0, there is one head"


def _about_resources(name: str, node: Mapping[str, Any]) -> Iterator[str]:
    resources: dict[str, int] = dict(node["resources"])
    gpus = {kind: count for kind, count in resources.items() if kind in GPU_TYPES and count}
    if resources.get("GPU", 0) != sum(gpus.values()):
        yield f"{name}: GPU is {resources.get('GPU', 0)}, but its types of GPU make {sum(gpus.values())}"
    instance = node["node_config"].get("InstanceType", "")
    machine = MACHINES.get(instance)
    if machine is None:
        return
    if gpus != machine.gpus:
        yield f"{name}: a {instance} has {_gpus(machine.gpus)}, not {_gpus(gpus)}"
    if resources.get("CPU", 0) > machine.cpus:
        yield f"{name}: a {instance} has {machine.cpus} CPUs, not {resources['CPU']}"


def _commands(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in COMMANDS:
        commands: Sequence[str] = document.get(key) or ()
        yield from ((key, command) for command in commands)


def _gpus(gpus: Mapping[str, int]) -> str:
    return " and ".join(f"{count}×{kind}" for kind, count in sorted(gpus.items())) or "no GPU"
