"""A Ray cluster that grows and shrinks, on this machine: Ray's autoscaler over nodes that are only processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tourney_ray.driver.cluster import (
    STORE_BYTES,
    LocalCluster,
    _end_with_parent,
    _environment,
    _free_ports,
    _stop,
    _wait_for_port,
)
from tourney_ray.effects.cluster_file import MACHINE

HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
HEAD_TYPE = "ray.head.default"
"""What the provider calls the node that it has not started itself."""

PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


@dataclass(frozen=True)
class Scaling:
    """The cluster, and the cluster file that its autoscaler goes by."""

    cluster: LocalCluster
    file: Path


@contextlib.contextmanager
def scaling_cluster(head: Mapping[str, int], kinds: Mapping[str, Mapping[str, int]]) -> Generator[Scaling]:
    """A head with those resources, and an autoscaler that may start one node of each kind."""
    folder = Path(tempfile.mkdtemp(prefix="tourney-ray-"))
    port, client_port = _free_ports(2)
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(_cluster_file(port, head, kinds)))
    environment = _environment(folder)
    log = folder / "head.log"
    process = _start_head(folder, port, client_port, head, environment)
    try:
        _wait_for_port(port, process, log)
        yield Scaling(LocalCluster(f"127.0.0.1:{port}", environment, ""), file)
    finally:
        _stop(process)
        end_processes_of(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _cluster_file(port: int, head: Mapping[str, int], kinds: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    some = {"node_config": {}, "max_workers": 1}
    types = {name: {"resources": dict(r), "labels": {MACHINE: name}, **some} for name, r in kinds.items()}
    types[HEAD_TYPE] = {"resources": dict(head), "node_config": {}, "max_workers": 0}
    provider = {"type": "external", "module": PROVIDER, "head_node_id": HEAD_ID, "disable_node_updaters": True}
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        **{f"{when}_commands": list[str]() for when in commands},
        **{key: list[str]() for key in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{key: dict[str, str]() for key in ("auth", "docker", "file_mounts")},
        "file_mounts_sync_continuously": False,
        "upscaling_speed": 1.0,
        "cluster_name": "scaling",
        "max_workers": len(kinds),
        "idle_timeout_minutes": 0.05,
        "provider": provider | {"gcs_address": f"127.0.0.1:{port}", "launch_multiple": True},
        "available_node_types": types,
        "head_node_type": HEAD_TYPE,
    }


def _start_head(
    folder: Path, port: int, client_port: int, head: Mapping[str, int], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    resources = dict(head)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--port={port}", f"--ray-client-server-port={client_port}", f"--temp-dir={folder}"]
    command += ["--include-dashboard=false", f"--autoscaling-config={folder / 'cluster.yaml'}"]
    command += [f"--num-cpus={resources.pop('CPU')}", f"--num-gpus={resources.pop('GPU')}"]
    command += [f"--resources={json.dumps(resources)}", f"--object-store-memory={STORE_BYTES}"]
    ours = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }
    with (folder / "head.log").open("wb") as output:
        return subprocess.Popen(
            command,
            env=os.environ | dict(environment) | ours,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )


def end_processes_of(folder: Path) -> None:
    """End what the provider has started and nobody else would: the processes that name this cluster's folder."""
    ours = [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]
    for process in ours:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(ours)
