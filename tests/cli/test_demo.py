"""The front door: `tourney demo` as a stranger runs it, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.following import until_said, until_true
from tourney_ray.core.rules import Rules

TOURNEY = str(Path(sys.executable).with_name("tourney"))
PATIENCE_S = 480.0
"""Most that the demonstration may take on two cores."""

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [TOURNEY, "demo", "--seed", "5", "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_whole_tournament_is_played(demo: dict[str, Any]) -> None:
    assert [r["type"] for r in demo["rounds"]] == ["group", "knockout", "knockout", "knockout", "boss"]
    (group,) = demo["rounds"][0]["matches"]
    assert len(group["entrants"]) == 10
    assert [len(r["matches"]) for r in demo["rounds"]] == [1, 4, 2, 1, 1]
    (boss,) = demo["rounds"][-1]["matches"]
    assert len(boss["tasks"]) == 6
    assert demo["champion"] in {e["hotkey"] for e in boss["entrants"]}
    assert demo["wall_s"] < PATIENCE_S


def test_the_specs_kinds_of_task_are_played_each_in_its_own_direction(demo: dict[str, Any]) -> None:
    (boss,) = demo["rounds"][-1]["matches"]
    assert [task["type"] for task in boss["tasks"]] == list(Rules().boss_tasks)
    tasks = [task for r in demo["rounds"] for match in r["matches"] for task in match["tasks"]]
    for task in tasks:
        sign = {"GrpoTask": -1}.get(task["type"], 1)
        assert task["direction"] == {1: "lower", -1: "higher"}[sign]
        values = [sign * ranked["value"] for ranked in task["ranking"] if ranked["valid"]]
        assert values == sorted(values)
        assert len(values) > 1


def test_every_verdict_has_a_reason_and_losers_lost_for_a_real_one(demo: dict[str, Any]) -> None:
    for r in demo["rounds"]:
        for match in r["matches"]:
            assert {v["hotkey"] for v in match["verdicts"]} == {e["hotkey"] for e in match["entrants"]}
            assert all(v["because"] for v in match["verdicts"])
    values = [e["values"].values() for r in demo["rounds"] for m in r["matches"] for e in m["entrants"]]
    losses = [value for each in values for value in each if value is not None]
    assert len(set(losses)) == len(losses) > 30


def test_the_samples_fail_as_they_are_made_to(demo: dict[str, Any]) -> None:
    failed = [a for a in demo["attempts"] if a["status"] == "failure"]
    assert {a["blame"] for a in failed} == {"miner"}
    crashed = [a for a in demo["attempts"] if "CrashOnce" in a["hotkey"]]
    first = [a["status"] for a in crashed if a["epoch"] == 1]
    assert first
    assert set(first) == {"failure"}
    assert {a["status"] for a in crashed if a["epoch"] == 2} == {"success"}
    empty = [a for a in demo["attempts"] if "NoCheckpoint" in a["hotkey"]]
    assert [a["kind"] for a in empty] == ["no_checkpoint", "no_checkpoint"]


def test_weights_and_emission_sum_to_one(demo: dict[str, Any]) -> None:
    assert sum(demo["weights"].values()) == pytest.approx(1, abs=1e-12)
    assert sum(demo["emission"].values()) == pytest.approx(1, abs=1e-12)
    assert max(demo["weights"], key=demo["weights"].__getitem__) == demo["champion"]


def test_at_most_one_trainer_runs_per_core(demo: dict[str, Any]) -> None:
    moments = sorted(
        moment for a in demo["attempts"] for moment in ((a["started_at"], 1), (a["ended_at"], -1)) if a["ended_at"]
    )
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    assert 0 < most <= len(os.sched_getaffinity(0))


def test_the_audit_agrees(demo: dict[str, Any]) -> None:
    done = subprocess.run([TOURNEY, "audit", demo["out"]], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("verdicts recomputed, all equal")


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [TOURNEY, "demo", "--seed", "6", "--miners", "8", "--out", str(tmp_path / "out")]
    marked = os.environ | {"TOURNEY_TEST_MARK": str(tmp_path)}
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=marked, stdout=output, stderr=output)
    try:
        tournament_id, ours = _while_a_trainer_runs(process, log, tmp_path)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, log.read_text()
    finally:
        process.kill()
        process.wait()
    psutil.wait_procs(ours, timeout=20)
    left = [p for p in psutil.process_iter() if _belongs(p, str(tmp_path), tournament_id)]
    assert [p.name() for p in left] == []


def _while_a_trainer_runs(
    process: subprocess.Popen[bytes], log: Path, folder: Path
) -> tuple[str, list[psutil.Process]]:
    """The demonstration's tournament and all of its processes, at a moment when a trainer is among them."""
    ours: list[psutil.Process] = []
    until_said(log, " AttemptRunning ", process, PATIENCE_S)
    tournament_id = next(word for word in log.read_text().split() if word.startswith("tournament=")).split("=")[1]

    def trains() -> bool:
        ours[:] = [p for p in psutil.process_iter() if _belongs(p, str(folder), tournament_id)]
        return any("train.py" in word for p in ours for word in _words(p))

    until_true(trains, log, process, PATIENCE_S)
    return tournament_id, ours


def _words(process: psutil.Process) -> list[str]:
    """Its command line; none when it has ended."""
    try:
        return process.cmdline()
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return []


def _belongs(process: psutil.Process, mark: str, tournament_id: str) -> bool:
    """Whether it inherited the test's mark, or trains for its tournament; what has ended belongs to nobody."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        inherited = process.environ().get("TOURNEY_TEST_MARK") == mark
        return inherited or any(tournament_id in word for word in process.cmdline())
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return False


def test_a_killed_driver_comes_back_and_stdout_is_one_document_all_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [TOURNEY, "demo", "--seed", "9", "--miners", "3", "--out", str(out), "--json"]
    log, document = tmp_path / "log", tmp_path / "document"
    with log.open("w") as errors, document.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=errors)
    until_true(lambda: _lasting(log), log, process, PATIENCE_S)
    (driver,) = (p for p in psutil.process_iter() if _holds(p, out))
    driver.send_signal(signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 0, log.read_text()
    demo = json.loads(document.read_text())
    assert demo["status"] == "completed"
    assert "platform" in {a["blame"] for a in demo["attempts"]}


def _lasting(log: Path) -> bool:
    """Whether somebody trains who does not fall over at once."""
    return any(" AttemptRunning " in line and "Crash" not in line for line in log.read_text().splitlines())


def _holds(process: psutil.Process, folder: Path) -> bool:
    """Whether it is the driver actor that keeps its journal in that folder."""
    try:
        words = process.cmdline()
        return (
            bool(words)
            and words[0].startswith("ray::Driver")
            and str(folder / "journal.duckdb") in (file.path for file in process.open_files())
        )
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return False
