"""An odd cluster that grows: its head claims GPUs that it has not, no machine has A100s, and the wide one comes late.

All of it through the real driver: what waits is announced, the right machine comes, is used, and goes again.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.following import until_said
from tests.ray.conftest import BIN, settings_text
from tests.ray.scaling import HEAD_ID, Scaling, scaling_cluster
from tourney_ray.samples.repositories import SampleRepository, write_base_contestant, write_sample_repositories
from tourney_ray.samples.servers import sample_key, serve_samples

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

PATIENCE_S = 90.0
HEAD = {"CPU": 4, "GPU": 4, "H100": 8}
KINDS = {"wide": {"CPU": 2, "GPU": 8, "H100": 8}, "narrow": {"CPU": 2, "GPU": 1, "H100": 1}}

EIGHT_GPUS_EACH = """\
[rules]
gpu_threshold_for_2x_h100 = 1e-9
gpu_threshold_for_4x_h100 = 2e-9
gpu_threshold_for_8x_h100 = 3e-9
"""

FACTS = "SELECT kind, recorded_at, tournament_id FROM journal ORDER BY seq"

SIZES = """
import asyncio, sys, time, ray
from pathlib import Path
from tourney_ray.config import ClusterChoice, Registry, Settings
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.state import State
from tourney_ray.driver import client
from tourney_ray.driver.dispatch import RayDispatcher

def until(wanted):
    began = time.monotonic()
    while True:
        sizes = sorted(int(n["Resources"].get("GPU", 0)) for n in ray.nodes() if n["Alive"])
        if sizes == wanted:
            return print(f"{sizes} after {time.monotonic() - began:.1f} s", file=sys.stderr)
        assert time.monotonic() < began + 60, sizes
        time.sleep(0.2)

async def ask():
    await asyncio.to_thread(until, [4])
    choice = ClusterChoice(file=Path(sys.argv[3]))
    settings = Settings(state=Path(sys.argv[2]), registry=Registry(miners=Path("none.json")), cluster=choice)
    dispatcher = RayDispatcher(settings, State, print, "none")
    dispatcher.cluster()
    dispatcher.announce([GpuRequirement.H100_8X], ())
    await asyncio.to_thread(until, [4, 8])
    dispatcher.announce([GpuRequirement.H100_8X, GpuRequirement.H100_1X], ())
    await asyncio.to_thread(until, [1, 4, 8])
    await dispatcher.withdraw()
    await asyncio.to_thread(until, [4])

with client.connection(sys.argv[1]):
    asyncio.run(ask())
"""
"""Waits until only the head, with its four GPUs, is left; asks for eight, then for one more, though four are free; then
for none.
"""


@dataclass(frozen=True)
class Grown:
    """A tournament whose trainings need eight GPUs each, from its start to what was left of the cluster after it."""

    log: str
    image: subprocess.CompletedProcess[str]
    """What came of a tournament of images on the same cluster."""
    leases: list[dict[str, str]]
    facts: list[dict[str, str]]
    cancelled: subprocess.CompletedProcess[str]
    after: subprocess.CompletedProcess[str]
    """What came of waiting for the machine to go, of asking for eight GPUs and one more, and of giving those back."""


@pytest.fixture(scope="module")
def scaling() -> Generator[Scaling]:
    with scaling_cluster(HEAD, KINDS) as running:
        yield running


@pytest.fixture(scope="module")
def grown(scaling: Scaling, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    folder, environment = tmp_path_factory.mktemp("grown"), os.environ | scaling.cluster.environment

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / program), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    where = ("--address", scaling.cluster.address, "--name", "grown")
    with serve_samples(_write_tournament(folder, scaling)) as miners:
        (folder / "miners.json").write_text(json.dumps([m.model_dump() for m in miners]))
        transfers = [{"id": m.hotkey, "coldkey": m.coldkey, "rao": 10**9} for m in miners]
        (folder / "transfers.json").write_text(json.dumps(transfers))
        image = run("tourney", "run", str(folder / "image.toml"), *where[:2])
        with _running(folder, environment, where) as log:
            leases = _rows(run("tourney", "query", *where, "SELECT node, gpus FROM leases"))
            facts = _rows(run("tourney", "query", *where, FACTS))
            (tournament,) = {fact["tournament_id"] for fact in facts if fact["tournament_id"]}
            why = ("--by", "ann", "--reason", "seen enough")
            cancelled = run("tourney", "cancel", tournament, *where, *why)
            after = run("python", "-c", SIZES, scaling.cluster.address, str(folder), str(scaling.file))
    return Grown(log.read_text(), image, leases, facts, cancelled, after)


def _write_tournament(folder: Path, scaling: Scaling) -> list[SampleRepository]:
    base, samples = write_base_contestant(folder / "miners"), write_sample_repositories(folder / "miners", 4)
    text = settings_text(sample_key(base.name, "hotkey"), base).replace('name = "small"', 'name = "grown"')
    text = text.replace("[rules]\n", EIGHT_GPUS_EACH).replace("[cluster]", f'[cluster]\nfile = "{scaling.file}"')
    (folder / "tournament.toml").write_text(text)
    (folder / "image.toml").write_text('types = ["image"]\n' + text)
    return samples


@contextlib.contextmanager
def _running(folder: Path, environment: dict[str, str], where: tuple[str, ...]) -> Generator[Path]:
    """The log of `tourney run` from its first training on, to the end of the run."""
    log = folder / "run.log"
    command = [str(BIN / "tourney"), "run", str(folder / "tournament.toml"), *where[:2]]
    with log.open("w") as output:
        running = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        until_said(log, " AttemptRunning ", running, PATIENCE_S)
        yield log
        assert running.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        running.kill()
        running.wait()


def _rows(answer: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_a_node_that_claims_too_much_is_named_and_used_for_what_it_has(grown: Grown) -> None:
    host = f"{socket.gethostname()} ({HEAD_ID[:8]})"
    told = f"error: node {host} claims 8×H100, but Ray counts 4 GPUs there: 4 are used; start Ray there with"
    assert told in grown.log
    assert f"NodeJoined node={HEAD_ID} gpus=4xH100" in grown.log


def test_the_wide_machine_comes_for_what_needs_it_whatever_else_waits(grown: Grown) -> None:
    waited = grown.log.index("awaited: needs 8×H100 on one node: no node has that")
    joined = [line for line in grown.log.splitlines() if "NodeJoined" in line and HEAD_ID not in line]
    assert len(joined) == 1, grown.log
    assert joined[0].endswith("gpus=8xH100")
    assert waited < grown.log.index(joined[0])


def test_what_waits_starts_as_soon_as_a_late_node_is_seen(grown: Grown) -> None:
    kinds = [fact["kind"] for fact in grown.facts]
    late = len(kinds) - 1 - kinds[::-1].index("NodeJoined")
    joined, started = grown.facts[late], grown.facts[late + 1]
    assert started["kind"] == "AttemptStarted"
    assert started["recorded_at"] == joined["recorded_at"], "both are recorded in one step"
    assert grown.leases == [{"node": grown.leases[0]["node"], "gpus": 8}]
    assert grown.leases[0]["node"] != HEAD_ID


def test_images_are_refused_where_no_machine_can_have_an_a100(grown: Grown, scaling: Scaling) -> None:
    assert grown.image.returncode == 2
    never = "group ImageTask: 1×A100 on one node; knockout ImageTask: 1×A100 on one node"
    refused = f"error: no machine of {scaling.file} could train what may be drawn: {never}"
    assert grown.image.stderr.startswith(refused), grown.image.stderr


def test_the_machine_goes_again_and_one_gpu_brings_the_narrow_one(grown: Grown) -> None:
    assert grown.cancelled.returncode == 0, grown.cancelled.stderr
    assert grown.after.returncode == 0, grown.after.stderr
