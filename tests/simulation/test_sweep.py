"""Two hundred seeds with every fault, as anybody would play them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tourney_ray.simulation.faults import KINDS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_hundred_seeds_with_every_fault_break_nothing() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["-m", "tourney_ray", "simulate", "--seeds", "0..199", "--faults", "all", "--json"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["violations"] == []
    assert document["seeds"] == 200
    assert document["tournaments"] > 400
    assert set(document["faults"]) == set(KINDS)
