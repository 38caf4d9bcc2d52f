"""`tourney demo --sandbox docker`: the whole demonstration through an engine, proven afterwards by the audit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docker.engine import PrivateEngine, mounts_below
from tourney_ray.effects.engine.connection import Engine
from tourney_ray.effects.engine.containers import Containers

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

TOURNEY = str(Path(sys.executable).with_name("tourney"))
PATIENCE_S = 600.0


def tourney(host: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DOCKER_HOST": host}
    command = [TOURNEY, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_whole_tournament_in_containers(dockerd: PrivateEngine, engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = tourney(
        dockerd.host, "demo", "--sandbox", "docker", "--seed", "5", "--miners", "4", "--out", str(out), "--json"
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["champion"]
    failed = [a for a in document["attempts"] if a["status"] == "failure"]
    assert {a["blame"] for a in failed} == {"miner"}
    assert {a["hotkey"][1:6] for a in failed} <= {"Crash", "NoChe"}
    assert Containers(engine).ours() == []
    assert mounts_below(out) == []
    audited = tourney(dockerd.host, "audit", str(out))
    assert audited.returncode == 0, audited.stderr
    rows = _idle(out)
    assert [row["what"] for row in rows] == ["lease to start", "end to release", "both together"]
    assert all(row["n"] >= len(document["entrants"]) and 0 < row["ratios"]["training"] < 1 for row in rows), rows


def _idle(held: Path) -> list[dict[str, Any]]:
    """What the benchmark reads in its journal. How long anything takes, is no matter of a test."""
    script = Path(__file__).parents[2] / "benchmarks" / "idle.py"
    command = [sys.executable, str(script), "--held", str(held), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)["rows"]


def test_without_an_engine_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = tourney("unix:///run/tourney-none.sock", "demo", "--sandbox", "docker", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error == "error: reaching the container engine at unix:///run/tourney-none.sock: no engine listens there"
    assert hint.startswith("hint: install Docker 20.10 or newer")
    assert not (tmp_path / "out").exists()
