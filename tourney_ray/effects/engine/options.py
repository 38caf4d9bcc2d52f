"""Every option of a trainer's container, from what is to be trained, what the node can and what the operator allows.

Pure. Guarantee: the same inputs give the same options, no limit is larger than the node, and nothing that an image says
of itself (labels, health checks, volumes, stop signal) loosens one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from tourney_ray.core.models import TrainingSpec
from tourney_ray.core.resources import memory_bytes
from tourney_ray.effects import contract
from tourney_ray.effects.engine.connection import EngineFacts
from tourney_ray.effects.engine.etc_files import ETC_FILES, HOSTNAME
from tourney_ray.effects.engine.labels import OurLabels, container_name, labels_of, parse_labels
from tourney_ray.effects.engine.seccomp import seccomp_profile
from tourney_ray.errors import EngineDown

__all__ = [
    "Effective",
    "Limits",
    "Mounts",
    "OurLabels",
    "asks_for_strict",
    "container_name",
    "effective",
    "labels_of",
    "parse_labels",
    "run_options",
]

MIB = 2**20
GIB = 2**30

LEAST_MEM_BYTES = 64 * MIB
"""With less for a container, the node is of no use."""

WIDE_GPUS = 4
"""From so many GPUs on, a training's processes share `shm_wide_bytes`."""

STRICT_USER = "1000:1000"

PROFILE_LABEL = "tourney.profile"
"""Label of an image that asks for the strict profile, with the value `strict`."""

CHECKPOINTS = contract.CHECKPOINTS


@dataclass(frozen=True)
class Limits:
    """What an operator allows each container, whatever a miner's image asks for."""

    pids: int = 1024
    """Processes and threads at the same time."""
    mem_reserve_bytes: int = 2 * GIB
    """Of the node's memory, left to the host."""
    mem_per_gpu: bool = False
    """Whether the memory and CPUs of a training's terms are meant per GPU."""
    shm_bytes: int = 8 * GIB
    """Of /dev/shm; at most half of the container's memory."""
    shm_wide_bytes: int = 16 * GIB
    """The same for trainings on 4 GPUs and more."""
    tmp_bytes: int = 4 * GIB
    """Of /tmp, which lies in memory; at most a quarter of the container's memory."""
    tmp_inodes: int = 100_000
    """Files in /tmp."""
    nofile: int = 20_000
    """Open files of one process."""
    log_max_bytes: int = 10 * MIB
    """Of one file of the container's log; older files beyond `log_files` are dropped."""
    log_files: int = 2
    grace_s: float = 10.0
    """Between the polite request to stop and the kill."""
    look_s: float = 5.0
    """How often the size of what a container writes and its last words are looked at: no event tells of them."""
    look_s: float = 5.0
    """How often the size of what a container writes and its last words are looked at: no event tells of them."""
    layer_bytes: int = 20 * GIB
    """What the container may write outside its mounts."""
    output_bytes: int = 100 * GIB
    """What the container may write to its checkpoints, the file system's own tables included."""
    output_inodes: int = 100_000
    """Files and folders in its checkpoints."""
    devices: Literal["nvidia", "none"] = "nvidia"
    """`none`: GPUs are only counted, and containers get no device."""
    runtime: str = "runc"
    """The engine's runtime, named so that no default of a node hands out GPUs by a variable in the image."""


@dataclass(frozen=True)
class Effective:
    """The limits of one container on one node, part of its record."""

    mem_bytes: int
    """Memory with swap: there is no swap beyond it."""
    nano_cpus: int
    shm_bytes: int
    tmp_bytes: int


@dataclass(frozen=True)
class Mounts:
    """Where a container's folders lie on the node. Nothing else of the node is visible to it."""

    cache: Path
    """Read-only at /cache: `models/…` and `datasets/…` of this task alone, with no mount below it."""
    checkpoints: Path
    """Writable at /app/checkpoints."""
    etc: Path
    """Its files read-only in /etc, where the engine's own would be writable without bound."""


def asks_for_strict(image_labels: dict[str, str] | None) -> bool:
    """Whether an image asks for user 1000 and a read-only root."""
    return (image_labels or {}).get(PROFILE_LABEL) == "strict"


def effective(spec: TrainingSpec, facts: EngineFacts, limits: Limits) -> Effective:
    """The training's terms within what the node has and the operator allows.

    Raises `EngineDown` for a node without memory to give.
    """
    times = spec.gpu_requirement.gpus if limits.mem_per_gpu else 1
    free = facts.mem_total_bytes - limits.mem_reserve_bytes
    if free < LEAST_MEM_BYTES:
        raise EngineDown(
            f"this node has {facts.mem_total_bytes / GIB:.1f} GiB of memory, and {limits.mem_reserve_bytes / GIB:.1f} "
            "of them are the host's",
            "lower sandbox.mem_reserve_gib, or train on a larger node",
        )
    mem = min(memory_bytes(spec.mem_limit) * times, free)
    shm = limits.shm_wide_bytes if spec.gpu_requirement.gpus >= WIDE_GPUS else limits.shm_bytes
    return Effective(
        mem_bytes=mem,
        nano_cpus=min(spec.nano_cpus * times, facts.cpus * 10**9),
        shm_bytes=min(shm, mem // 2),
        tmp_bytes=min(limits.tmp_bytes, mem // 4),
    )


def run_options(
    spec: TrainingSpec,
    facts: EngineFacts,
    limits: Limits,
    image_id: str,
    strict: bool,
    labels: OurLabels,
    mounts: Mounts,
) -> dict[str, Any]:
    """The arguments of `client.containers.create`. The GPUs are those of the labels.

    Raises as `effective` does.
    """
    return {
        "image": image_id,
        "name": container_name(spec),
        "labels": labels.words(),
        **_contract(spec),
        **_isolation(strict),
        **_bounds(effective(spec, facts, limits), facts, limits),
        **_devices(limits, labels.gpus),
        "mounts": _mounts(mounts),
        "runtime": limits.runtime,
    }


def _contract(spec: TrainingSpec) -> dict[str, Any]:
    """What the image is started with; its entry point, folder and variables are its own affair."""
    return {
        "command": contract.contract_arguments(spec),
        "environment": contract.contract_environment(spec),
        "hostname": HOSTNAME,
        "stop_signal": "SIGTERM",  # an image may name one that stops nothing
        "healthcheck": {"test": ["NONE"]},  # an image's would run beside the training
        "use_config_proxy": False,  # a proxy with its password is in this user's configuration, not in the contract
        "stdin_open": False,
        "tty": False,
        "init": True,
    }


def _isolation(strict: bool) -> dict[str, Any]:
    """What stands between a container and everything else."""
    profile: dict[str, Any] = {"user": STRICT_USER, "read_only": True} if strict else {"read_only": False}
    return {
        "network_mode": "none",
        "ipc_mode": "private",
        "cgroupns": "private",
        "privileged": False,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges", f"seccomp={seccomp_profile()}"],
        "restart_policy": {"Name": "no"},
        "auto_remove": False,
        **profile,
    }


def _bounds(given: Effective, facts: EngineFacts, limits: Limits) -> dict[str, Any]:
    """What a container can use up."""
    log = {"max-size": f"{limits.log_max_bytes // 1024}k", "max-file": str(limits.log_files)}
    tmp = f"rw,exec,nosuid,nodev,size={given.tmp_bytes},nr_inodes={limits.tmp_inodes},mode=1777"
    bounds: dict[str, Any] = {
        "nano_cpus": given.nano_cpus,
        "mem_limit": given.mem_bytes,
        "memswap_limit": given.mem_bytes,
        "oom_kill_disable": False,
        "pids_limit": limits.pids,
        "shm_size": given.shm_bytes,
        "tmpfs": {"/tmp": tmp},
        "ulimits": [
            Ulimit(name="nofile", soft=limits.nofile, hard=limits.nofile),
            Ulimit(name="core", soft=0, hard=0),
        ],
        "log_config": LogConfig(type="json-file", config=log),
    }
    if facts.cgroup_version == "1":
        bounds["mem_swappiness"] = 0  # the second version has no such knob: its limit of swap does the same
    if facts.layer_quota:
        bounds["storage_opt"] = {"size": str(limits.layer_bytes)}
    return bounds


def _devices(limits: Limits, gpus: tuple[int, ...]) -> dict[str, Any]:
    """Exactly these GPUs, by index; a container that holds none gets no device at all."""
    if limits.devices == "none" or not gpus:
        return {}
    return {"device_requests": [DeviceRequest(device_ids=[str(gpu) for gpu in gpus], capabilities=[["gpu"]])]}


def _mounts(mounts: Mounts) -> list[Mount]:
    """Binds only, which fail where the folder is missing; the engine would make one, as root, for a volume."""
    etc = [
        Mount(f"/etc/{name}", str(mounts.etc / name), type="bind", read_only=True, propagation="rprivate")
        for name in ETC_FILES
    ]
    return [
        *etc,
        Mount(contract.CACHE, str(mounts.cache), type="bind", read_only=True, propagation="rprivate"),
        Mount(CHECKPOINTS, str(mounts.checkpoints), type="bind", propagation="rprivate"),
    ]
