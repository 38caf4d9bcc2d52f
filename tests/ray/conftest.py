"""One real Ray cluster for all tests here, and one tournament on it: sent as a job, its driver killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.builders_training import SMALL_RULES
from tests.following import until_said
from tourney_ray.driver.cluster import LocalCluster, local_cluster
from tourney_ray.samples.repositories import SampleRepository, write_base_contestant, write_sample_repositories
from tourney_ray.samples.servers import sample_key, serve_samples

MINERS = 4
BIN = Path(sys.executable).parent
PATIENCE_S = 240.0
DEFAULT_AGENT_PORT = 52365

SETTINGS = """\
name = "small"
state = "state"
seed = 11
[registry]
miners = "miners.json"
transfers = "transfers.json"
[repositories]
allow_file = true
[cluster]
max_trainers = 2
"""

ON_GPUS = """\
[sandbox]
devices = "none"
[evaluation]
gpu = true
"""
"""Evaluations hold GPUs, which are counted only."""


@dataclass(frozen=True)
class Held:
    """A tournament that was held: its folder, its document, the job's log and which driver was killed."""

    folder: Path
    document: dict[str, Any]
    log: str
    killed: int


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def cluster() -> Generator[LocalCluster]:
    """A cluster of two nodes. The port that agents of all Rays listen on by default is taken, as by another Ray."""
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # then it is taken indeed
            taken.bind(("", DEFAULT_AGENT_PORT))
            taken.listen()
        with local_cluster({"H100": 8, "A100": 2}, dashboard=True) as running:
            yield running


@pytest.fixture(scope="session")
def run(cluster: LocalCluster) -> Run:
    """Run one of the environment's programs against the cluster and return what came of it."""

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / program), *arguments]
        environment = os.environ | cluster.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    return run


@pytest.fixture(scope="session")
def held(cluster: LocalCluster, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Generator[Held]:
    folder = tmp_path_factory.mktemp("held")
    samples = write_sample_repositories(folder / "miners", MINERS)
    base = write_base_contestant(folder / "miners")
    with serve_samples(samples) as miners:
        dead = miners[0].model_copy(update={"hotkey": "dead", "port": 9})
        poor = miners[1].model_copy(update={"hotkey": "poor", "coldkey": "penniless"})
        everyone = [dead, *miners, poor]
        (folder / "miners.json").write_text(json.dumps([m.model_dump() for m in everyone]))
        transfers = [{"id": m.hotkey, "coldkey": m.coldkey, "rao": 10**9} for m in miners]
        (folder / "transfers.json").write_text(json.dumps(transfers))
        champion = sample_key(base.name, "hotkey")
        settings = settings_text(champion, base)
        (folder / "tournament.toml").write_text(settings + ON_GPUS)
        killed = _submit_and_kill(cluster, folder)
        again = run("tourney", "run", str(folder / "tournament.toml"), "--address", cluster.address, "--json")
        assert again.returncode == 0, again.stderr
        yield Held(folder, json.loads(again.stdout), (folder / "job.log").read_text(), killed)


def settings_text(champion: str, base: SampleRepository) -> str:
    """The settings file of a small tournament that `champion` defends with the base contestant's repository."""
    return (SETTINGS + SMALL_RULES).format(
        hotkey=champion,
        repo=base.path.as_uri(),
        commit=base.commit,
        min_miners=4,
        hours_scale=0.025,
        boss_tasks='"InstructTextTask", "InstructTextTask"',
    )


def _submit_and_kill(cluster: LocalCluster, folder: Path) -> int:
    """Submit the tournament as a job, kill -9 its driver once something trains, wait for the job; the pid killed."""
    command = [str(BIN / "ray"), "job", "submit", "--address", cluster.dashboard, "--"]
    command += ["tourney", "run", str(folder / "tournament.toml")]
    log = folder / "job.log"
    with log.open("w") as output:
        job = subprocess.Popen(command, env=os.environ | cluster.environment, stdout=output, stderr=output)
    until_said(log, " AttemptRunning ", job, PATIENCE_S)
    (killed,) = driver_pids(folder)
    os.kill(killed, signal.SIGKILL)
    assert job.wait(PATIENCE_S) == 0, log.read_text()
    return killed


def driver_pids(folder: Path) -> list[int]:
    """The processes of drivers whose journal lies in that folder."""
    return [p.pid for p in psutil.process_iter(["cmdline"]) if _is_driver(p, folder)]


def _is_driver(process: psutil.Process, folder: Path) -> bool:
    """Whether it is the actor that holds the journal in that folder."""
    if not " ".join(process.info["cmdline"] or ()).startswith("ray::Driver"):
        return False
    return any(Path(f.path).is_relative_to(folder) for f in process.open_files())
