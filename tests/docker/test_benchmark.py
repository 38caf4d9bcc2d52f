"""The benchmark of containers runs against an engine and prints ratios; how fast it is, is no matter of a test."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

from tests.docker.engine import PrivateEngine

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_its_ratios_are_positive(dockerd: PrivateEngine, tiny: str, tmp_path: Path) -> None:
    del tiny
    command = [sys.executable, str(FOLDER / "containers.py"), "--quick", "--json", "--host", dockerd.host]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    document = json.loads(done.stdout)
    assert [row["what"] for row in document["rows"]] == ["one at a time", "around it", "eight at once"]
    for row in document["rows"]:
        assert all(math.isfinite(ratio) and ratio > 0 for ratio in row["ratios"].values()), row
