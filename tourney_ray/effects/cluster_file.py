"""What a cluster file for `ray up` says of its machines: which kinds there are, with which GPUs, and how many at most.

Guarantee: what is returned is complete, or `ConfigError` names the file, the place in it and what is wrong there. Ray's
own schema is not looked at here: see `cluster_checks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tourney_ray.core.models import GpuRequirement
from tourney_ray.errors import ConfigError

GPU_TYPES = frozenset(requirement.gpu_type for requirement in GpuRequirement)
"""Names of the custom resources that trainings ask for."""

RAYS_IDLE_MINUTES = 5
"""How long Ray keeps a machine that has nothing to do where the file does not say."""

MACHINE = "tourney/machine"
"""Label of a node that names its kind of machine."""

LABEL = re.compile(r"(?:[a-zA-Z0-9](?:[-_.a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)?")
"""What Ray takes for the value of one."""

LOCAL = "local"
"""Ray's provider of machines that are there anyhow; everything else rents them."""


@dataclass(frozen=True, slots=True)
class NodeType:
    """One kind of worker machine."""

    name: str
    gpus: dict[str, int]
    """GPUs of one such machine, by type; empty on one that cannot train."""
    min_workers: int
    max_workers: int
    """How many of them there may be at once."""
    instance_type: str
    """What the provider calls it; empty for machines of one's own."""
    machine: str = ""
    """Its nodes' label `tourney/machine`; empty where they have none."""


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """The worker machines that a cluster may have. The head is not among them: nothing trains there."""

    node_types: tuple[NodeType, ...]
    """In the order of the file."""
    max_workers: int
    """Of all kinds together."""
    idle_minutes: float = 0.0
    """How long one that has nothing to do is kept; 0 where machines are one's own."""


def read_cluster_file(path: Path) -> ClusterFile:
    """The machines of a cluster file; `ConfigError` when it is not there, no YAML, or does not say them all."""
    document = read_document(path)
    try:
        provider = _mapping(document, "provider")
        if provider.get("type") == LOCAL:
            return _own_machines(document, provider)
        return _rented_machines(document)
    except _Wrong as wrong:
        raise ConfigError(f"{path}: {wrong}", "cluster.yaml and deploy/ have complete examples") from None


def read_document(path: Path) -> dict[str, Any]:
    """The file's content as plain values; `ConfigError` when there is none, or no mapping."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "name a cluster file that exists") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"{path} is not YAML: {why}", "cluster.yaml is a complete example") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a cluster file is a mapping of keys", "cluster.yaml is a complete example")
    return document


class _Wrong(Exception):
    """What is wrong, and where in the file."""


def _rented_machines(document: Mapping[str, Any]) -> ClusterFile:
    types, head = _mapping(document, "available_node_types"), document.get("head_node_type")
    if head not in types:
        raise _Wrong(f"head_node_type: {head!r} is none of available_node_types")
    if "max_workers" not in document:
        raise _Wrong("max_workers: is missing, and bounds the bill")
    most, idle = _count(document, "max_workers", 0), document.get("idle_timeout_minutes", RAYS_IDLE_MINUTES)
    if isinstance(idle, bool) or not isinstance(idle, int | float) or idle < 0:
        raise _Wrong(f"idle_timeout_minutes: {idle!r} is no number of 0 or more")
    return ClusterFile(tuple(_node_type(name, types, most) for name in types if name != head), most, idle)


def _node_type(name: str, types: Mapping[str, Any], most: int) -> NodeType:
    """One kind; where it does not say how many, Ray takes as many as there may be of all."""
    try:
        node = _mapping(types, name)
        instance = _mapping(node, "node_config").get("InstanceType", "")
        gpus = _gpus(_mapping(node, "resources"), "resources")
        low, high = _count(node, "min_workers", 0), _count(node, "max_workers", most)
        label = _mapping(node, "labels").get(MACHINE, "") if "labels" in node else ""
        if not LABEL.fullmatch(str(label)):
            raise _Wrong(f"labels.{MACHINE}: {label!r} is no label: letters, digits, and -_. between them")
        return NodeType(name, gpus, low, high, str(instance), str(label))
    except _Wrong as wrong:
        raise _Wrong(f"available_node_types.{name}: {wrong}") from None


def _own_machines(document: Mapping[str, Any], provider: Mapping[str, Any]) -> ClusterFile:
    """Each host is a kind of its own. Ray lets a provider have keys of ours: it ignores `gpus_by_host`."""
    hosts, gpus = provider.get("worker_ips"), _mapping(provider, "gpus_by_host")
    if not isinstance(hosts, Sequence) or isinstance(hosts, str):
        raise _Wrong("provider.worker_ips: the list of worker machines is missing")
    if set(gpus) != set(hosts):
        odd = ", ".join(sorted(map(str, set(gpus) ^ set(hosts))))
        raise _Wrong(f"provider.gpus_by_host names other machines than worker_ips: {odd}")
    types = tuple(
        NodeType(str(host), _gpus(_mapping(gpus, host), f"provider.gpus_by_host.{host}"), 0, 1, "") for host in hosts
    )
    return ClusterFile(types, _count(document, "max_workers", len(types)))


def _gpus(resources: Mapping[str, Any], where: str) -> dict[str, int]:
    return {kind: _count(resources, kind, 0, where) for kind in sorted(GPU_TYPES & resources.keys())}


def _mapping(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    if not isinstance(value, Mapping):
        raise _Wrong(f"{key}: {'is missing' if value is None else 'has to be a mapping of keys'}")
    return value


def _count(holder: Mapping[str, Any], key: str, default: int, where: str = "") -> int:
    value = holder.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        place = f"{where}.{key}" if where else key
        raise _Wrong(f"{place}: {value!r} is no number of 0 or more")
    return value
