"""`tourney demo --type image` as a stranger runs it: two miners and the first champion, SDXL and Flux."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tourney_ray.samples.pipelines import MODEL_TYPES, ensure_pipeline

TOURNEY = str(Path(sys.executable).with_name("tourney"))
PATIENCE_S = 840.0

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    for model_type in MODEL_TYPES:
        ensure_pipeline(model_type)
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [TOURNEY, "demo", "--type", "image", "--miners", "2", "--seed", "4", "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_whole_tournament_of_images_is_played(demo: dict[str, Any]) -> None:
    assert [r["type"] for r in demo["rounds"]] == ["knockout", "boss"]
    (boss,) = demo["rounds"][-1]["matches"]
    assert len(boss["tasks"]) == 6
    assert demo["champion"] in {e["hotkey"] for e in boss["entrants"]}
    values = [v for r in demo["rounds"] for m in r["matches"] for e in m["entrants"] for v in e["values"].values()]
    assert len(values) == 2 + 6 * 2
    assert all(value is not None and math.isfinite(value) for value in values)
    assert all(attempt["status"] == "success" for attempt in demo["attempts"])


def test_the_audit_agrees(demo: dict[str, Any]) -> None:
    done = subprocess.run([TOURNEY, "audit", demo["out"]], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
