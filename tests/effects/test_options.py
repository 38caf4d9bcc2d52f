"""The options of a trainer's container, row by row, and the labels that it is known by."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.effects.builders_sandbox import World
from tourney_ray.core.models import GpuRequirement, TrainingSpec
from tourney_ray.effects.contract import contract_arguments, contract_environment
from tourney_ray.effects.engine.connection import EngineFacts
from tourney_ray.effects.engine.options import (
    Limits,
    Mounts,
    asks_for_strict,
    container_name,
    effective,
    labels_of,
    parse_labels,
    run_options,
)
from tourney_ray.errors import EngineDown

GIB = 2**30
FACTS = EngineFacts(
    engine_id="e",
    version="20.10.24",
    api_version="1.41",
    cpus=64,
    mem_total_bytes=512 * GIB,
    cgroup_version="1",
    cgroup_driver="cgroupfs",
    storage_driver="overlay2",
    layer_quota=False,
    root_dir=Path("/var/lib/docker"),
    runtimes=("runc",),
    live_restore=True,
    rootless=False,
)
IMAGE = f"sha256:{'ab' * 32}"
MOUNTS = Mounts(Path("/w/cache"), Path("/w/output"), Path("/w/etc"))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> TrainingSpec:
    world = World(tmp_path_factory.mktemp("options"))
    return world.spec(world.source("pass")).model_copy(update={"mem_limit": "24g", "nano_cpus": 8 * 10**9})


def options(
    spec: TrainingSpec,
    facts: EngineFacts = FACTS,
    limits: Limits | None = None,
    strict: bool = False,
    gpus: tuple[int, ...] = (3, 1),
) -> dict[str, Any]:
    labels = labels_of(spec, "n1", "tourney", gpus)
    return run_options(spec, facts, limits or Limits(), IMAGE, strict, labels, MOUNTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", IMAGE),
        ("network_mode", "none"),
        ("nano_cpus", 8 * 10**9),
        ("mem_limit", 24 * GIB),
        ("memswap_limit", 24 * GIB),
        ("mem_swappiness", 0),
        ("oom_kill_disable", False),
        ("pids_limit", 1024),
        ("cap_drop", ["ALL"]),
        ("privileged", False),
        ("init", True),
        ("ipc_mode", "private"),
        ("cgroupns", "private"),
        ("shm_size", 8 * GIB),
        ("restart_policy", {"Name": "no"}),
        ("hostname", "trainer"),
        ("stdin_open", False),
        ("tty", False),
        ("read_only", False),
        ("use_config_proxy", False),
        ("stop_signal", "SIGTERM"),
        ("healthcheck", {"test": ["NONE"]}),
        ("runtime", "runc"),
        ("ulimits", [{"Name": "nofile", "Soft": 20000, "Hard": 20000}, {"Name": "core", "Soft": 0, "Hard": 0}]),
        ("log_config", {"Type": "json-file", "Config": {"max-size": "10240k", "max-file": "2"}}),
        ("tmpfs", {"/tmp": f"rw,exec,nosuid,nodev,size={4 * GIB},nr_inodes=100000,mode=1777"}),
    ],
)
def test_an_option_of_the_contracts_profile(spec: TrainingSpec, name: str, value: object) -> None:
    assert options(spec)[name] == value


@pytest.mark.parametrize(
    "name",
    ["user", "entrypoint", "working_dir", "volumes", "cap_add", "devices", "storage_opt", "pid_mode", "cgroup_parent"],
)
def test_what_is_left_to_the_image_or_to_nobody(spec: TrainingSpec, name: str) -> None:
    assert name not in options(spec)


def test_the_contract_is_passed_on_whole_and_nothing_else(spec: TrainingSpec) -> None:
    given = options(spec)
    assert given["command"] == contract_arguments(spec)
    assert given["environment"] == contract_environment(spec)


def test_of_all_that_is_mounted_one_folder_is_writable(spec: TrainingSpec) -> None:
    mounts = [(m["Type"], m["Source"], m["Target"], bool(m.get("ReadOnly"))) for m in options(spec)["mounts"]]
    assert mounts == [
        ("bind", "/w/etc/hosts", "/etc/hosts", True),
        ("bind", "/w/etc/hostname", "/etc/hostname", True),
        ("bind", "/w/etc/resolv.conf", "/etc/resolv.conf", True),
        ("bind", "/w/cache", "/cache", True),
        ("bind", "/w/output", "/app/checkpoints", False),
    ]


def test_the_strict_profile_is_another_user_and_a_read_only_root(spec: TrainingSpec) -> None:
    plain, strict = options(spec), options(spec, strict=True)
    differing = {name: value for name, value in strict.items() if plain.get(name) != value}
    assert differing == {"user": "1000:1000", "read_only": True}


@pytest.mark.parametrize(
    ("labels", "strict"),
    [
        ({"tourney.profile": "strict"}, True),
        ({"tourney.profile": "contract"}, False),
        ({"tourney.profile": ""}, False),
        ({}, False),
        (None, False),
    ],
)
def test_an_image_asks_for_strict_by_its_label(labels: dict[str, str] | None, strict: bool) -> None:
    assert asks_for_strict(labels) is strict


def test_devices_are_named_one_by_one(spec: TrainingSpec) -> None:
    request = options(spec)["device_requests"][0]
    assert request["DeviceIDs"] == ["1", "3"]
    assert request["Count"] in (None, 0)
    assert request["Capabilities"] == [["gpu"]]
    assert "device_requests" not in options(spec, gpus=())
    assert "device_requests" not in options(spec, limits=Limits(devices="none"))


def test_what_only_some_engines_can(spec: TrainingSpec) -> None:
    given = options(spec, replace(FACTS, cgroup_version="2", layer_quota=True))
    assert "mem_swappiness" not in given
    assert given["storage_opt"] == {"size": str(20 * GIB)}


def test_from_four_gpus_on_processes_share_more_memory(spec: TrainingSpec) -> None:
    wide = spec.model_copy(update={"gpu_requirement": GpuRequirement.H100_4X, "mem_limit": "64g"})
    two = spec.model_copy(update={"gpu_requirement": GpuRequirement.H100_2X, "mem_limit": "64g"})
    assert options(wide)["shm_size"] == 16 * GIB
    assert options(two)["shm_size"] == 8 * GIB


def test_an_operator_may_scale_by_the_gpus(spec: TrainingSpec) -> None:
    eight = spec.model_copy(update={"gpu_requirement": GpuRequirement.H100_8X})
    given = effective(eight, FACTS, Limits(mem_per_gpu=True))
    assert (given.mem_bytes, given.nano_cpus) == (192 * GIB, 64 * 10**9)
    assert effective(eight, FACTS, Limits()).mem_bytes == 24 * GIB


@given(
    mem_limit=st.from_regex(r"[1-9][0-9]{0,2}[mg]", fullmatch=True),
    cpus=st.integers(1, 256),
    node=st.tuples(st.integers(1, 128), st.integers(3 * GIB, 2048 * GIB)),
    gpus=st.sampled_from(GpuRequirement),
    per_gpu=st.booleans(),
)
def test_no_limit_is_larger_than_the_node(
    spec: TrainingSpec, mem_limit: str, cpus: int, node: tuple[int, int], gpus: GpuRequirement, per_gpu: bool
) -> None:
    terms = {"mem_limit": mem_limit, "nano_cpus": cpus * 10**9, "gpu_requirement": gpus}
    facts = replace(FACTS, cpus=node[0], mem_total_bytes=node[1])
    limits = Limits(mem_per_gpu=per_gpu)
    given = effective(spec.model_copy(update=terms), facts, limits)
    assert 0 < given.mem_bytes <= node[1] - limits.mem_reserve_bytes
    assert 0 < given.nano_cpus <= node[0] * 10**9
    assert given.shm_bytes + given.tmp_bytes < given.mem_bytes


def test_a_node_without_memory_says_so(spec: TrainingSpec) -> None:
    with pytest.raises(EngineDown, match=r"2\.0 GiB of memory, and 2\.0 of them are the host's"):
        options(spec, replace(FACTS, mem_total_bytes=2 * GIB))


def test_every_system_call_is_allowed_once_and_the_dangerous_ones_never(spec: TrainingSpec) -> None:
    name, text = options(spec)["security_opt"]
    assert name == "no-new-privileges"
    profile = json.loads(text.removeprefix("seccomp="))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    free = [name for rule in profile["syscalls"] if "args" not in rule for name in rule["names"]]
    assert len(set(free)) == len(free)
    allowed = {n for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for n in rule["names"]}
    refused = "bpf chroot clone3 init_module io_uring_setup kcmp kexec_load keyctl mount open_by_handle_at ptrace setns"
    refused += " perf_event_open pidfd_getfd pivot_root process_vm_readv socketcall swapon unshare userfaultfd"
    assert not allowed & set(refused.split())
    assert not {"clone", "socket", "socketpair", "personality"} & set(free)


def test_labels_are_read_as_they_were_written(spec: TrainingSpec) -> None:
    ours = labels_of(spec, "n1", "tourney", (3, 1))
    assert ours.words()["tourney.gpus"] == "1,3"
    assert parse_labels(ours.words() | {"maintainer": "someone"}) == ours
    none = labels_of(spec, "n1", "tourney", ())
    assert parse_labels(none.words()) == none


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", "0"),
        ("epoch", "-1"),
        ("epoch", "1e3"),
        ("epoch", "١"),
        ("epoch", 1),
        ("gpus", "1,"),
        ("gpus", "2,1"),
        ("gpus", "1,1"),
        ("gpus", "all"),
        ("gpus", None),
        ("attempt", ""),
        ("node", None),
    ],
)
def test_labels_of_strangers_are_nobodys(spec: TrainingSpec, name: str, value: object) -> None:
    words: dict[str, object] = dict(labels_of(spec, "n1", "tourney", (1,)).words())
    assert parse_labels(words | {f"tourney.{name}": value}) is None
    del words[f"tourney.{name}"]
    assert parse_labels(words) is None


def test_a_container_without_labels_is_nobodys() -> None:
    assert parse_labels(None) is None
    assert parse_labels({}) is None


@given(attempt=st.text(max_size=200), epoch=st.integers(1, 10**12))
def test_a_name_is_one_that_the_engine_takes(spec: TrainingSpec, attempt: str, epoch: int) -> None:
    name = container_name(spec.model_copy(update={"attempt_id": attempt, "epoch": epoch}))
    assert re.fullmatch(r"tourney-[a-zA-Z0-9_.-]{1,55}", name)


def test_a_name_tells_leases_apart(spec: TrainingSpec) -> None:
    others = [{"epoch": 2}, {"attempt_id": "task-1/other/1"}, {"tournament_id": "tourn_2"}]
    names = {container_name(spec.model_copy(update=other)) for other in [*others, {}, {}]}
    assert len(names) == 4
