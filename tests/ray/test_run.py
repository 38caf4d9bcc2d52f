"""A tournament on a real Ray cluster with token authentication, end to end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import pytest

from tests.ray.conftest import Held, Run, driver_pids
from tourney_ray.driver.cluster import LocalCluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_job_ends_with_a_champion_and_every_verdict_has_its_reason(held: Held) -> None:
    document = held.document
    assert document["status"] == "completed"
    assert document["champion"]
    assert [r["type"] for r in document["rounds"]] == ["knockout", "knockout", "boss"]
    for r in document["rounds"]:
        for match in r["matches"]:
            assert len(match["verdicts"]) == len(match["entrants"])
            assert all(verdict["because"] for verdict in match["verdicts"])
    assert sum(document["weights"].values()) == pytest.approx(1, abs=1e-12)


def test_who_did_not_enter_is_told_why_and_the_tournament_goes_on(held: Held) -> None:
    refused = held.document["refused"]
    assert refused.keys() == {"dead", "poor"}
    assert "no connection" in refused["dead"]
    assert refused["poor"] == "the balance of penniless is 0 TAO, the fee is 0.2 TAO"


def test_the_killed_driver_came_back_and_nobody_paid_for_it(held: Held) -> None:
    lost = [a for a in held.document["attempts"] if a["kind"] == "lost"]
    assert lost, "the driver was killed while something trained"
    assert {a["blame"] for a in lost} == {"platform"}
    for attempt in lost:
        later = [
            a
            for a in held.document["attempts"]
            if (a["task_id"], a["hotkey"]) == (attempt["task_id"], attempt["hotkey"]) and a["epoch"] > attempt["epoch"]
        ]
        assert later, "what was lost is started again"


def test_the_jobs_log_has_a_line_per_fact(held: Held) -> None:
    lines = re.findall(r"^\d\d:\d\d:\d\d #(\d+) ", held.log, re.MULTILINE)
    assert [int(n) for n in lines] == list(range(1, len(lines) + 1))
    assert "TournamentCompleted" in held.log


def test_running_it_again_finds_the_same_driver(held: Held, run: Run, cluster: LocalCluster) -> None:
    before = driver_pids(held.folder)
    again = run("tourney", "run", str(held.folder / "tournament.toml"), "--address", cluster.address, "--json")
    assert again.returncode == 0, again.stderr
    assert driver_pids(held.folder) == before
    assert len(before) == 1
    assert before != [held.killed]
    assert json.loads(again.stdout)["tournament_id"] == held.document["tournament_id"]


def test_other_settings_under_the_same_name_are_refused(held: Held, run: Run, cluster: LocalCluster) -> None:
    other = held.folder / "other.toml"
    other.write_text((held.folder / "tournament.toml").read_text().replace("seed = 11", "seed = 12"))
    refused = run("tourney", "run", str(other), "--address", cluster.address)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: a driver named small runs already, with other settings")


def test_a_query_is_answered_while_the_driver_holds_the_journal(held: Held, run: Run, cluster: LocalCluster) -> None:
    sql = "SELECT hotkey, value FROM evaluations ORDER BY hotkey"
    answer = run("tourney", "query", "--address", cluster.address, "--name", "small", sql)
    assert answer.returncode == 0, answer.stderr
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert {row["hotkey"] for row in rows} >= {e["hotkey"] for e in held.document["entrants"]}
    refused = run("tourney", "query", "--address", cluster.address, "--name", "small", "DROP TABLE evaluations")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_what_an_attempt_said_last_is_shown(held: Held, run: Run, cluster: LocalCluster) -> None:
    where = ("--address", cluster.address, "--name", "small")
    sql = "SELECT attempt_id, status, log_tail FROM attempts WHERE log_tail <> '' LIMIT 1"
    attempt = json.loads(run("tourney", "query", *where, sql).stdout)
    last = run("tourney", "logs", *where, attempt["attempt_id"])
    assert last.returncode == 0, last.stderr
    assert last.stdout.strip() == attempt["log_tail"].strip()
    assert f"note: attempt {attempt['attempt_id']} is over, a {attempt['status']}" in last.stderr


def test_a_snapshot_is_a_database_of_its_own(held: Held, run: Run, cluster: LocalCluster) -> None:
    target = held.folder / "state" / "copy.duckdb"
    made = run("tourney", "snapshot", "--address", cluster.address, "--name", "small", str(target))
    assert made.returncode == 0, made.stderr
    with duckdb.connect(str(target), read_only=True) as copy:
        (winner,) = copy.execute("SELECT hotkey FROM standings WHERE place = 1").fetchall()
    assert winner == (held.document["champion"],)


def test_the_audit_recomputes_everything(held: Held, run: Run) -> None:
    audit = run("tourney", "audit", str(held.folder / "state"))
    assert audit.returncode == 0, audit.stderr
    assert re.search(r"\d+ facts, \d+ verdicts recomputed, all equal", audit.stdout)


def test_a_kept_checkpoint_gives_the_same_number(held: Held, run: Run, tmp_path: Path) -> None:
    data = Path(held.document["data"])
    match = held.document["rounds"][-1]["matches"][0]
    task = match["tasks"][0]
    for entrant in match["entrants"]:
        attempt = next(
            a
            for a in held.document["attempts"]
            if (a["task_id"], a["hotkey"], a["status"]) == (task["task_id"], entrant["hotkey"], "success")
        )
        checkpoint = tmp_path / entrant["hotkey"]
        settings = ["--settings", str(held.folder / "tournament.toml")]
        taken = run("tourney", "checkout", *settings, attempt["checkpoint"], str(checkpoint))
        assert taken.returncode == 0, taken.stderr
        paths = {"--base": data / task["model_path"], "--checkpoint": checkpoint, "--rows": data / task["test_path"]}
        options = [word for flag, path in paths.items() for word in (flag, str(path))]
        options += ["--dataset-type", json.dumps(task["dataset_type"]), "--sequence-len", str(task["sequence_len"])]
        again = run("tourney", "evaluate", "--kind", "instruct", *options, "--json")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["value"] == pytest.approx(entrant["values"][task["task_id"]], abs=1e-9)


def test_losing_miners_lost_for_a_real_reason(held: Held) -> None:
    values = [
        v for r in held.document["rounds"] for m in r["matches"] for e in m["entrants"] for v in e["values"].values()
    ]
    numbers = [v for v in values if v is not None]
    assert len(set(numbers)) == len(numbers) >= 6
