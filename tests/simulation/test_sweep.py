"""Two hundred seeds with every fault, as anybody would play them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tourney_ray.simulation.faults import KINDS
from tourney_ray.simulation.miners import Script
from tourney_ray.simulation.run import Setting
from tourney_ray.simulation.sweep import play_seed

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


def test_an_error_of_a_seed_names_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> float:
        raise KeyError("skill")

    monkeypatch.setattr(Script, "chance", broken)
    with pytest.raises(KeyError) as caught:
        play_seed(Setting(), 7)
    assert caught.value.__notes__ == ["in seed 7"]
