"""`ray job submit` against a head with token authentication on private ports, as from a laptop."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tourney_ray
from tests.ray.conftest import BIN, Run, driver_pids, settings_text
from tourney_ray.driver.cluster import LocalCluster
from tourney_ray.samples.repositories import write_base_contestant, write_sample_repositories
from tourney_ray.samples.servers import sample_key, serve_samples

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_S = 90.0
WAITS = "awaited: 2 of 4 entrants: the miners are asked again at"


@dataclass(frozen=True)
class Submitted:
    """A tournament that waits for miners, handed in twice and stopped twice."""

    logs: list[str]
    jobs: str
    """What Ray lists of its jobs."""
    plain: subprocess.CompletedProcess[str]
    """`tourney run` without a job, meanwhile."""
    drivers: list[list[int]]
    """The processes of the driver after each submission, and after both were stopped."""
    stopped: list[subprocess.CompletedProcess[str]]
    facts: subprocess.CompletedProcess[str]
    """The driver's answer after both jobs were stopped."""
    carried: str
    """The log of a job that came with the package."""
    imported: str
    """The file that the driver's class was imported from, where the package came with the job."""


@pytest.fixture(scope="module")
def submitted(cluster: LocalCluster, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Generator[Submitted]:
    folder = tmp_path_factory.mktemp("jobs")
    base, samples = write_base_contestant(folder / "miners"), write_sample_repositories(folder / "miners", 2)
    with serve_samples(samples) as miners:
        (folder / "miners.json").write_text(json.dumps([m.model_dump() for m in miners]))
        transfers = [{"id": m.hotkey, "coldkey": m.coldkey, "rao": 10**9} for m in miners]
        (folder / "transfers.json").write_text(json.dumps(transfers))
        sent = folder / "sent"
        sent.mkdir()
        (sent / "tournament.toml").write_text(_settings(folder, sample_key(base.name, "hotkey"), base))
        where = ("--address", cluster.dashboard)
        logs: list[str] = []
        drivers: list[list[int]] = []
        for job in ("first", "second"):
            about = ("--submission-id", job, "--metadata-json", '{"tournament": "jobs"}', "--working-dir", str(sent))
            done = run("ray", "job", "submit", *where, "--no-wait", *about, "--", "tourney", "run", "tournament.toml")
            assert done.returncode == 0, done.stderr
            logs.append(_log(run, where, job))
            drivers.append(driver_pids(folder))
        plain = run("tourney", "run", str(sent / "tournament.toml"), "--address", cluster.address, "--detach")
        jobs = run("ray", "job", "list", *where)
        stopped = [run("ray", "job", "stop", *where, job) for job in ("first", "second")]
        drivers.append(driver_pids(folder))
        name = ("--address", cluster.address, "--name", "jobs")
        facts = run("tourney", "query", *name, "SELECT count(*) AS facts FROM journal")
        with_package = ("--no-wait", "--submission-id", "third", "--working-dir", str(_with_package(folder, sent)))
        run(
            "ray", "job", "submit", *where, *with_package, "--", "python", "-m", "tourney_ray", "run", "tournament.toml"
        )
        carried = _log(run, where, "third")
        run("tourney", "stop", *name[:3], "carried")
        imported = (folder / "imported").read_text()
        yield Submitted(logs, jobs.stdout, plain, drivers, stopped, facts, carried, imported)
        run("tourney", "stop", *name)


def _with_package(folder: Path, sent: Path) -> Path:
    """A folder to hand in with another tournament and the package in it, whose driver notes where it comes from."""
    carried = folder / "carried"
    package = Path(tourney_ray.__file__).parent
    shutil.copytree(package, carried / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    with (carried / package.name / "driver" / "actor.py").open("a") as source:
        source.write(f"\n\nPath({str(folder / 'imported')!r}).write_text(__file__)\n")
    text = (sent / "tournament.toml").read_text().replace('name = "jobs"', 'name = "carried"')
    (carried / "tournament.toml").write_text(text.replace(f'"{folder}/state"', f'"{folder}/other"'))
    return carried


def _settings(folder: Path, champion: str, base: Any) -> str:
    """The settings with all paths absolute: a job runs in a copy of its folder."""
    text = settings_text(champion, base).replace('name = "small"', 'name = "jobs"')
    return re.sub(r'"(state|miners\.json|transfers\.json)"', rf'"{folder}/\1"', text)


def _log(run: Run, where: tuple[str, ...], job: str) -> str:
    until = time.monotonic() + PATIENCE_S
    while WAITS not in (log := run("ray", "job", "logs", *where, job).stdout):
        assert time.monotonic() < until, log
    return log


def test_handing_it_in_again_finds_the_driver_that_runs(submitted: Submitted) -> None:
    first, second, _ = submitted.drivers
    assert len(first) == 1
    assert first == second
    assert "TournamentCreated" in submitted.logs[0]
    created = [line for line in submitted.logs[0].splitlines() if "TournamentCreated" in line]
    assert created == [line for line in submitted.logs[1].splitlines() if "TournamentCreated" in line]


def test_the_package_may_come_with_the_job(submitted: Submitted) -> None:
    assert "driver carried runs" in submitted.carried
    assert "/working_dir_files/" in submitted.imported, "what is installed on the node was taken"


def test_a_stopped_job_does_not_stop_the_tournament(submitted: Submitted) -> None:
    assert [done.returncode for done in submitted.stopped] == [0, 0], submitted.stopped
    assert submitted.drivers[2] == submitted.drivers[0]
    assert json.loads(submitted.facts.stdout)["facts"] >= 6


def test_jobs_say_which_tournament_they_are_about(submitted: Submitted) -> None:
    assert submitted.plain.returncode == 0, submitted.plain.stderr
    told = re.findall(r"metadata=\{'tournament': 'jobs'\}", submitted.jobs)
    assert len(told) == 3, submitted.jobs


def test_logs_are_lines_for_people(submitted: Submitted) -> None:
    for log in submitted.logs:
        lines = log[log.index("driver jobs runs") :].splitlines()
        strange = [line for line in lines[1:] if not re.match(r"\d\d:\d\d:\d\d #\d+ \w+ |awaited: ", line)]
        assert strange == []
        assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("token", "why"),
    [(None, "Ray couldn't find an authentication token."), ("6" * 64, "Invalid authentication token")],
    ids=["none", "wrong"],
)
def test_a_job_without_the_token_is_refused(
    submitted: Submitted, cluster: LocalCluster, tmp_path: Path, token: str | None, why: str
) -> None:
    environment = _environment(cluster, tmp_path, token)
    command = [str(BIN / "ray"), "job", "submit", "--address", cluster.dashboard, "--", "tourney", "run", "x.toml"]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert refused.returncode == 1
    assert f"\nray.exceptions.AuthenticationError: {'Token' if token is None else 'Authentication'}" in refused.stderr
    assert why in refused.stderr


def test_our_commands_say_in_a_line_that_the_token_is_missing(cluster: LocalCluster, tmp_path: Path) -> None:
    command = [str(BIN / "tourney"), "query", "--address", cluster.address, "SELECT 1"]
    environment = _environment(cluster, tmp_path, None)
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert refused.returncode == 2
    lines = [line for line in refused.stderr.splitlines() if line.startswith(("error:", "hint:"))]
    assert lines[0] == f"error: the Ray cluster at {cluster.address} does not know this token"
    assert lines[1].startswith("hint: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH")
    assert "Traceback" not in refused.stderr


def _environment(cluster: LocalCluster, folder: Path, token: str | None) -> dict[str, str]:
    """The environment of a client of the cluster with another token, or none."""
    given = os.environ | cluster.environment | {"HOME": str(folder)}
    del given["RAY_AUTH_TOKEN_PATH"]
    if token is None:
        return given
    (folder / "token").write_text(token)
    return given | {"RAY_AUTH_TOKEN_PATH": str(folder / "token")}
