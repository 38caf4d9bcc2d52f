"""A tournament in containers, while its driver, a watcher and the engine are killed: nobody loses by it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from docker.models.containers import Container

from tests.builders_training import SMALL_RULES
from tests.conftest import skip_or_fail
from tests.docker.engine import PrivateEngine, private_engine, why_not
from tests.docker.troubled import TOO_OLD, answering
from tests.effects.builders_repos import commit_all, git
from tests.following import until_said
from tourney_ray.driver.cluster import LocalCluster, local_cluster
from tourney_ray.effects.engine.connection import connect
from tourney_ray.samples.base_image import ensure_base_image
from tourney_ray.samples.repositories import SampleRepository, write_base_contestant, write_sample_repositories
from tourney_ray.samples.servers import sample_key, serve_samples

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.own_engine, pytest.mark.timeout(600)]

TOURNEY = str(Path(sys.executable).with_name("tourney"))
PATIENCE_S = 400.0
SLEEP_S = 30
SLOW_HOTKEY = "stranger"
SLOW = f"""import os, sys, time
print("sleeping", flush=True)
time.sleep({SLEEP_S})
os.execv(sys.executable, [sys.executable, "/workspace/train.py", *sys.argv[1:]])
"""
SETTINGS = """\
name = "boxed"
state = "state"
seed = 11
[registry]
miners = "miners.json"
transfers = "transfers.json"
[repositories]
allow_file = true
[sandbox]
kind = "docker"
host = "{host}"
devices = "none"
output_gib = 0.5
layer_gib = 0.5
[cluster]
max_trainers = 3
"""


@dataclass(frozen=True)
class Held:
    """A tournament that was held, and the container that was running while everything around it was killed."""

    document: dict[str, Any]
    attempts: list[dict[str, Any]]
    """The driver's table."""
    attempt: str
    """Of that container."""
    started_at: tuple[str, str]
    """When the engine says it started, before and after the killing."""
    left: list[Container]
    followed: subprocess.CompletedProcess[str]
    """`tourney logs --follow` of that attempt, meanwhile."""


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Generator[Held]:
    if reason := why_not():
        skip_or_fail(reason)
    folder = tmp_path_factory.mktemp("boxed")
    with private_engine(30) as dockerd, local_cluster({"H100": 8, "A100": 1}) as cluster:
        with contextlib.closing(connect(dockerd.host)) as engine:
            ensure_base_image(engine)
        yield _hold(folder, dockerd, cluster)


def test_a_strangers_repository_is_built_and_trained_like_any(held: Held) -> None:
    assert held.document["champion"]
    assert {a["status"] for a in held.attempts} == {"success"}
    assert {a["hotkey"] for a in held.attempts} >= {SLOW_HOTKEY}


def test_an_engine_that_was_away_and_then_too_old_at_the_beginning_cost_nobody_an_attempt(held: Held) -> None:
    assert {a["blame"] for a in held.attempts} == {None}


def test_its_container_went_on_while_everything_around_it_was_killed(held: Held) -> None:
    before, after = held.started_at
    assert before == after
    (attempt,) = [a for a in held.attempts if a["attempt_id"] == held.attempt]
    assert (attempt["epoch"], attempt["status"]) == (1, "success")
    assert len(attempt["gpu_indices"]) == 1


def test_its_words_are_heard_to_the_end_though_the_driver_died(held: Held) -> None:
    assert held.followed.returncode == 0, held.followed.stderr
    assert held.followed.stdout.startswith("sleeping\n")
    assert f"note: attempt {held.attempt} is over, a success" in held.followed.stderr


def test_every_entrant_has_one_image(held: Held) -> None:
    images = {(a["hotkey"], a["image_id"]) for a in held.attempts}
    assert len(images) == len({hotkey for hotkey, _ in images}) == 4
    assert all(image.startswith("sha256:") for _, image in images)


def test_no_container_is_left(held: Held) -> None:
    assert held.left == []


def _hold(folder: Path, dockerd: PrivateEngine, cluster: LocalCluster) -> Held:
    base = write_base_contestant(folder / "miners")
    samples = [s for s in write_sample_repositories(folder / "miners", 4) if s.name != "crash-once"]
    samples[1] = _slow(samples[1])
    with serve_samples(samples) as miners:
        miners[1] = miners[1].model_copy(update={"hotkey": SLOW_HOTKEY})
        (folder / "miners.json").write_text(json.dumps([m.model_dump() for m in miners]))
        transfers = [{"id": m.hotkey, "coldkey": m.coldkey, "rao": 10**9} for m in miners]
        (folder / "transfers.json").write_text(json.dumps(transfers))
        champion = sample_key(base.name, "hotkey")
        text = (SETTINGS + SMALL_RULES).format(
            host=dockerd.host,
            hotkey=champion,
            repo=base.path.as_uri(),
            commit=base.commit,
            min_miners=3,
            hours_scale=0.05,
            boss_tasks='"InstructTextTask"',
        )
        (folder / "tournament.toml").write_text(text)
        return _run_and_kill(folder, dockerd, cluster)


def _slow(sample: SampleRepository) -> SampleRepository:
    """The repository of a stranger: a sample that sleeps before it trains."""
    dockerfile = sample.path / "dockerfiles" / "standalone-text-trainer.dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("/workspace/train.py", "/workspace/slow.py"))
    (sample.path / "slow.py").write_text(SLOW)
    return replace(sample, commit=commit_all(sample.path), tree_hash=git(sample.path, "rev-parse", "HEAD^{tree}"))


def _run_and_kill(folder: Path, dockerd: PrivateEngine, cluster: LocalCluster) -> Held:
    where = ["--address", cluster.address]
    environment = os.environ | cluster.environment
    command = [TOURNEY, "run", str(folder / "tournament.toml"), *where, "--json"]
    dockerd.stop()
    with (folder / "out.json").open("w") as out, (folder / "log.txt").open("w") as log:
        run = subprocess.Popen(command, env=environment, stdout=out, stderr=log)
    try:
        _until_it_is_said(folder / "log.txt", "awaited: reaching the container engine", run)
        with answering(TOO_OLD, dockerd.folder / "docker.sock"):
            _until_it_is_said(folder / "log.txt", "speaks API 1.40, which is too old", run)
        dockerd.start()
        container = _slow_container(dockerd, run)
        before = _started_at(dockerd, container)
        words = [TOURNEY, "logs", "--name", "boxed", *where, "--follow", container.labels["tourney.attempt"]]
        following = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        _kill_everything(container.labels["tourney.attempt"], folder, dockerd)
        after = _started_at(dockerd, container)
        assert run.wait(PATIENCE_S) == 0, (folder / "log.txt").read_text()
    finally:
        run.kill()
        run.wait()
    told = following.communicate(timeout=PATIENCE_S)
    followed = subprocess.CompletedProcess(words, following.returncode, *told)
    document = json.loads((folder / "out.json").read_text())
    asked = [TOURNEY, "query", "--name", "boxed", *where, "FROM attempts"]
    told = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    with contextlib.closing(dockerd.client()) as client:
        left = client.containers.list(all=True, filters={"label": "tourney.attempt"})
    rows = [json.loads(line) for line in told.splitlines()]
    return Held(document, rows, container.labels["tourney.attempt"], (before, after), left, followed)


def _until_it_is_said(log: Path, words: str, run: subprocess.Popen[bytes]) -> None:
    """Wait for the command to say that nothing can be staged: its engine is away."""
    until_said(log, words, run, PATIENCE_S)


def _slow_container(dockerd: PrivateEngine, run: subprocess.Popen[bytes]) -> Container:
    """The stranger's first container, as soon as it runs."""
    wanted = {"type": "container", "event": "start", "label": f"tourney.hotkey={SLOW_HOTKEY}"}
    with contextlib.closing(dockerd.client()) as client:
        events = client.events(filters=wanted, decode=True)
        threading.Thread(target=lambda: (run.wait(), events.close()), daemon=True).start()
        started = next(iter(events), None)
        assert started is not None, "the tournament ended before the stranger trained"
        return client.containers.get(started["Actor"]["ID"])


def _started_at(dockerd: PrivateEngine, container: Container) -> str:
    with contextlib.closing(dockerd.client()) as client:
        return client.containers.get(str(container.id)).attrs["State"]["StartedAt"]


def _kill_everything(attempt: str, folder: Path, dockerd: PrivateEngine) -> None:
    """The watcher, its successor's driver and the engine, one after the other, while the container sleeps."""
    watcher = _wait_for(lambda: _watchers(attempt))
    watcher.kill()
    _wait_for(lambda: [p for p in _watchers(attempt) if p.pid != watcher.pid])
    driver = _wait_for(lambda: _drivers(folder))
    driver.kill()
    dockerd.restart(signal.SIGKILL)


def _wait_for(find: Callable[[], list[psutil.Process]]) -> psutil.Process:
    until = time.monotonic() + SLEEP_S
    while not (found := find()):
        assert time.monotonic() < until
    return found[0]


def _watchers(attempt: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if attempt in " ".join(p.info["cmdline"] or ())]


def _drivers(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    drivers = [p for p in found if " ".join(p.info["cmdline"] or ()).startswith("ray::Driver")]
    return [p for p in drivers if any(Path(f.path).is_relative_to(folder) for f in p.open_files())]
