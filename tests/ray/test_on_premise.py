"""`ray up` of deploy/on-premise.yaml on this machine, through an sshd of its own; a command there; and `ray down`.

The overlay changes only what a machine alone cannot have: addresses, ports, user and key; the installation, which is
there already; and what NVIDIA's driver would say. All else, the `ray` that stops nobody else's included, is the file's.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.ray.conftest import BIN
from tests.ray.scaling import end_processes_of
from tourney_ray.driver.cluster import _free_ports

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
HEAD, WORKER = "127.0.0.1", "127.0.0.2"
PATIENCE_S = 120.0
STORE = " --object-store-memory=104857600"

SSHD = """\
Port {port}
ListenAddress 127.0.0.1
ListenAddress 127.0.0.2
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv HOME={home}
"""

BASHRC = """\
export HOME={home} RAY_TMPDIR={folder}/clusters PYTHONPATH={home}/tourney-ray
export PATH={folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""

NODES = """
import json, time, ray, tourney_ray
from pathlib import Path
ray.init("auto", log_to_driver=False, logging_level="error")
until = time.monotonic() + 60
while len(found := [n for n in ray.nodes() if n["Alive"]]) < 2 and time.monotonic() < until:
    time.sleep(0.2)
print("NODES", json.dumps([{k: v for k, v in n["Resources"].items() if k in ("GPU", "H100")} for n in found]))
print("PACKAGE", tourney_ray.__file__)
for log in (Path.home() / "tourney/ray/session_latest/logs").glob("monitor.*") if len(found) < 2 else ():
    print(log.read_text()[-5000:])
"""


@dataclass(frozen=True)
class Hosts:
    """Two hosts that are this machine: their home, and `ray` as it is on the laptop of whoever starts a cluster."""

    folder: Path
    home: Path
    file: Path
    ray: Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Held:
    """What came of a cluster from `ray up` to `ray down`."""

    up: subprocess.CompletedProcess[str]
    again: subprocess.CompletedProcess[str]
    command: subprocess.CompletedProcess[str]
    heads: list[int]
    """Processes of the head's control store after each `ray up`."""
    down: subprocess.CompletedProcess[str]
    left: list[str]
    """Processes of the cluster after `ray down`."""
    stranger: int | None
    """How a process that looks like somebody else's Ray ended meanwhile; None: it did not."""


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest) -> Generator[Hosts]:
    need: Callable[[str], str] = request.getfixturevalue("need")
    sshd, keygen, *_ = need("/usr/sbin/sshd"), need("ssh-keygen"), need("rsync"), need("sudo")
    folder = Path(tempfile.mkdtemp(prefix="op-", dir="/tmp"))
    home, (ssh_port, *ports) = folder / "home", _free_ports(4)
    (folder / "bin").mkdir()
    (home / ".ray").mkdir(parents=True)
    (home / "tourney-venv").symlink_to(BIN.parent)
    (home / ".bashrc").write_text(BASHRC.format(home=home, folder=folder))
    (folder / "token").write_text("5" * 64)
    (folder / "token").chmod(0o600)
    ssh = folder / "bin" / "ssh"
    # OpenSSH seeks `~` in the list of users and not in HOME: it would not find the key that `ray up` takes to the head.
    own = f"-F /dev/null -p {ssh_port} -o IdentityFile={folder}/user_key"
    ssh.write_text(f'#!/bin/sh\nexec {need("/usr/bin/ssh")} {own} "$@"\n')
    ssh.chmod(0o755)
    for key in ("host_key", "user_key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    (folder / "sshd.conf").write_text(SSHD.format(port=ssh_port, folder=folder, home=home))
    file = folder / "on-premise.yaml"
    file.write_text(yaml.safe_dump(overlaid(folder, ports)))
    with _sshd(sshd, folder, ssh_port):
        yield Hosts(folder, home, file, _ray(folder))


def overlaid(folder: Path, ports: list[int]) -> dict[str, Any]:
    """deploy/on-premise.yaml for two addresses of this machine, whose installation is there already."""
    text = (ROOT / "deploy" / "on-premise.yaml").read_text()
    for usual, own in zip(("16379", "16380", "16381"), ports, strict=True):
        text = text.replace(usual, str(own))
    text = text.replace("/var/lib/tourney/gcs", "~/tourney/gcs")
    cluster = yaml.safe_load(text)
    cluster["cluster_name"] = folder.name
    cluster["provider"] |= {"head_ip": HEAD, "worker_ips": [WORKER], "gpus_by_host": {WORKER: {"H100": 8}}}
    cluster["auth"] = {"ssh_user": getpass.getuser(), "ssh_private_key": str(folder / "user_key")}
    cluster["file_mounts"]["~/.ray/auth_token"] = str(folder / "token")
    cluster["setup_commands"] = [c for c in cluster["setup_commands"] if "tourney-venv/bin/p" not in c]
    cluster["worker_setup_commands"] = []
    cluster["head_start_ray_commands"][-1] += STORE
    (start,) = cluster["worker_start_ray_commands"]
    start = start.replace("sudo ~/tourney-venv/bin/tourney check-host", "echo '{\"H100\": 8}'")
    start = start.replace("tourney/ray", "tourney/ray/worker").replace('="$gpus"', f'="$gpus" --num-gpus=8{STORE}')
    cluster["worker_start_ray_commands"] = [start]
    return cluster


@contextlib.contextmanager
def _sshd(sshd: str, folder: Path, port: int) -> Generator[None]:
    Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "sshd.log").open("w") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd.conf")], stderr=log)
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HEAD, port), timeout=1):
                break
            assert process.poll() is None, (folder / "sshd.log").read_text()
            assert time.monotonic() < until
        yield
    finally:
        end_processes_of(folder)
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _ray(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    path = f"{folder / 'bin'}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"PATH": path, "RAY_TMPDIR": str(folder / "clusters"), "RAY_USAGE_STATS_ENABLED": "0"}

    def ray(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ray.scripts.scripts", *arguments]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    return ray


@pytest.fixture(scope="module")
def held(hosts: Hosts) -> Generator[Held]:
    stranger = subprocess.Popen(["bash", "-c", 'exec -a "/elsewhere/raylet/raylet" sleep 600'])
    file = str(hosts.file)
    (hosts.home / "nodes.py").write_text(NODES)
    try:
        up = hosts.ray("up", "-y", "--no-config-cache", file)
        heads = _control_stores(hosts.folder)
        command = hosts.ray("exec", file, "~/tourney-venv/bin/python ~/nodes.py")
        again = hosts.ray("up", "-y", "--no-config-cache", file)
        heads += _control_stores(hosts.folder)
        down = hosts.ray("down", "-y", file)
        left = [" ".join(p.cmdline())[:200] for p in _processes_of(hosts.folder) if "sshd" not in p.name()]
        yield Held(up, again, command, heads, down, left, stranger.poll())
    finally:
        stranger.kill()
        stranger.wait()


def _processes_of(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if f"{folder}/home/tourney/ray" in " ".join(p.info["cmdline"] or ())]


def _control_stores(folder: Path) -> list[int]:
    return [p.pid for p in _processes_of(folder) if "gcs_server" in p.name()]


def test_a_command_on_the_head_finds_both_machines_and_the_copied_package(held: Held, hosts: Hosts) -> None:
    assert held.up.returncode == 0, held.up.stderr
    assert held.command.returncode == 0, held.command.stderr
    said = dict(
        line.split(" ", 1) for line in held.command.stdout.splitlines() if line.startswith(("NODES", "PACKAGE"))
    )
    assert sorted(json.loads(said["NODES"]), key=len) == [{}, {"GPU": 8.0, "H100": 8.0}], held.command.stdout
    assert said["PACKAGE"].strip() == f"{hosts.home}/tourney-ray/tourney_ray/__init__.py"


def test_starting_it_again_leaves_what_runs_alone(held: Held) -> None:
    assert held.again.returncode == 0, held.again.stderr
    assert len(held.heads) == 2
    assert held.heads[0] == held.heads[1]


def test_it_ends_with_ray_down_and_ends_nobody_elses_ray(held: Held) -> None:
    assert held.down.returncode == 0, held.down.stderr
    assert held.left == []
    assert held.stranger is None
