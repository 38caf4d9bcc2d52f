"""A Ray cluster on this machine whose GPUs are only counted: for demonstrations, tests and rehearsals.

Its processes are children of this one and end with it. It has ports, a token and a temporary folder of its own, so it
meets no other Ray on the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tourney_ray.errors import EngineDown

START_S = 120.0
STOP_S = 15.0
STORE_BYTES = 100 * 2**20
"""Object store of each node: only small records pass through it."""

POLL_S = 0.05
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A running cluster: where it listens and the environment that its clients need."""

    address: str
    environment: dict[str, str]
    dashboard: str
    """URL for `ray job submit --address`; empty without a dashboard."""


@contextlib.contextmanager
def local_cluster(nodes: Mapping[str, int], dashboard: bool = False) -> Generator[LocalCluster]:
    """A cluster with a node for each GPU type and count, such as `{"H100": 8, "A100": 2}`; the first is the head.

    With a `dashboard`, jobs can be submitted when this returns. Clients set `environment` before they import Ray, which
    reads it then. Raises `EngineDown` when Ray does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="tourney-ray-"))
    environment = _environment(folder)
    port, dashboard_port, client_port, *agent_ports = _free_ports(3 + len(nodes))
    processes: list[subprocess.Popen[bytes]] = []
    shown = ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}"]
    try:
        for number, (gpu_type, gpus) in enumerate(nodes.items()):
            head = ["--head", f"--port={port}", f"--ray-client-server-port={client_port}", f"--temp-dir={folder}"]
            head += shown if dashboard else ["--include-dashboard=false"]
            where = [f"--address=127.0.0.1:{port}"] if number else head
            where = [*where, f"--dashboard-agent-listen-port={agent_ports[number]}"]
            log = folder / f"node-{number}.log"
            processes.append(_start_node(where, gpu_type, gpus, os.environ | environment, log))
            if not number:
                _wait_for_port(port, processes[0], log)
        for needed in (dashboard_port, agent_ports[0]) if dashboard else ():  # the head's agent is who starts jobs
            _wait_for_port(needed, processes[0], folder / "node-0.log")
        url = f"http://127.0.0.1:{dashboard_port}" if dashboard else ""
        yield LocalCluster(f"127.0.0.1:{port}", environment, url)
    finally:
        with _uninterrupted():
            for process in reversed(processes):
                _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def _start_node(
    where: list[str], gpu_type: str, gpus: int, environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    resources = json.dumps({gpu_type: gpus})
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, "--block", f"--num-gpus={gpus}"]
    command += [f"--resources={resources}", f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None or time.monotonic() > until:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise EngineDown(f"Ray's head did not start: {' '.join(last)}", "see whether `ray start --head` works here")
        time.sleep(POLL_S)


@contextlib.contextmanager
def _uninterrupted() -> Generator[None]:
    """Let nobody's impatience leave half of the processes behind; only the main thread can be interrupted at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    saved = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the one that started it dies, however that happens."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the node to end with its children; past the patience, kill its whole session."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
