"""A person steps in on a real Ray cluster: a tournament that waits for miners is cancelled, and its fees come back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.following import until_said
from tests.ray.conftest import BIN, Run, settings_text
from tourney_ray.driver.cluster import LocalCluster
from tourney_ray.samples.repositories import write_base_contestant, write_sample_repositories
from tourney_ray.samples.servers import sample_key, serve_samples

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]

PATIENCE_S = 90.0


@pytest.fixture
def short(cluster: LocalCluster, run: Run, tmp_path: Path) -> Generator[subprocess.Popen[bytes]]:
    """`tourney run` of a tournament that waits: two of the four miners that it needs have paid and are in."""
    base, samples = write_base_contestant(tmp_path / "miners"), write_sample_repositories(tmp_path / "miners", 2)
    with serve_samples(samples) as miners:
        (tmp_path / "miners.json").write_text(json.dumps([m.model_dump() for m in miners]))
        transfers = [{"id": m.hotkey, "coldkey": m.coldkey, "rao": 10**9} for m in miners]
        (tmp_path / "transfers.json").write_text(json.dumps(transfers))
        settings = settings_text(sample_key(base.name, "hotkey"), base)
        (tmp_path / "tournament.toml").write_text(settings.replace('name = "small"', 'name = "short"'))
        command = [str(BIN / "tourney"), "run", str(tmp_path / "tournament.toml"), "--address", cluster.address]
        log = tmp_path / "run.log"
        with log.open("w") as output:
            running = subprocess.Popen(command, env=os.environ | cluster.environment, stdout=output, stderr=output)
        until_said(log, "2 of 4 entrants", running, PATIENCE_S)
        yield running
        running.kill()
        running.wait()
        run("tourney", "stop", "--address", cluster.address, "--name", "short")


def test_a_cancelled_tournament_gives_its_fees_back_and_ends(
    short: subprocess.Popen[bytes], cluster: LocalCluster, run: Run, tmp_path: Path
) -> None:
    where = ("--address", cluster.address, "--name", "short")
    why = ("--by", "ann", "--reason", "too few miners")
    log = tmp_path / "run.log"
    tournament = next(word for word in log.read_text().split() if word.startswith("tournament=")).partition("=")[2]
    done = run("tourney", "cancel", tournament, *where, *why)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f": {tournament} is cancelled by ann: too few miners; 2 fees refunded\n")
    assert short.wait(PATIENCE_S) == 0, log.read_text()
    assert f"{tournament} was cancelled by ann: too few miners" in log.read_text()
    sql = "SELECT rao, refunded_at IS NOT NULL AS back, refund FROM charges"
    charges = [json.loads(line) for line in run("tourney", "query", *where, sql).stdout.splitlines()]
    refund = "the tournament was cancelled by ann"
    assert charges == [{"rao": charges[0]["rao"], "back": True, "refund": refund}] * 2
    again = run("tourney", "cancel", tournament, *where, *why)
    assert again.returncode == 2
    assert again.stderr.splitlines()[0] == "error: not cancelled: the tournament is cancelled"
