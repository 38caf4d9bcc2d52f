"""Every benchmark runs and prints ratios. How fast anything is, is no matter of a test."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
ON_RAY = (pytest.mark.ray, pytest.mark.slow)
ON_DISK = ("advance.py", "dispatch.py", "journal.py")
"""Scripts that measure in a folder of one's choice."""
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))


def test_every_script_is_tested_here() -> None:
    assert SCRIPTS == [
        "advance.py",
        "containers.py",
        "core.py",
        "dispatch.py",
        "evaluation.py",
        "idle.py",
        "journal.py",
        "makespan.py",
        "scale.py",
        "starvation.py",
    ]  # containers and idle: in tests/docker


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("evaluation.py", marks=pytest.mark.slow),
        *(pytest.param(name, marks=ON_RAY) for name in ("advance.py", "dispatch.py", "starvation.py")),
        "core.py",
        "journal.py",
        "makespan.py",
        "scale.py",
    ],
)
def test_json_holds_positive_ratios(script: str, tmp_path: Path) -> None:
    document = json.loads(_run(script, "--quick", "--json", cwd=tmp_path))
    assert f"{document['benchmark']}.py" == script
    assert document["rows"]
    for row in document["rows"]:
        assert row["what"]
        assert row["n"] >= 1
        assert row["ratios"]
        assert all(math.isfinite(ratio) and ratio > 0 for ratio in row["ratios"].values()), row
    assert not list(tmp_path.iterdir())


def test_the_table_names_its_baselines(tmp_path: Path) -> None:
    header, *lines = _run("core.py", "--quick", cwd=tmp_path).splitlines()
    assert header.startswith("core: median time of …")
    assert "÷ outcome as JSON" in header
    assert len(lines) == 2 * 6
    assert len({len(line) for line in [header, *lines]}) == 1


def test_the_help_says_what_is_compared(tmp_path: Path) -> None:
    for script in SCRIPTS:
        text = _run(script, "--help", cwd=tmp_path)
        assert "Compared with:" in text
        assert "--quick" in text


def _run(script: str, *arguments: str, cwd: Path) -> str:
    folder = ["--folder", str(cwd)] if script in ON_DISK else []
    command = [sys.executable, str(FOLDER / script), *arguments, *folder]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
