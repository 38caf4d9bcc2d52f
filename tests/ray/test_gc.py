"""Sweeping to nothing while a tournament is held: it loses nothing that it needs, and afterwards only that is left."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.ray.conftest import BIN, PATIENCE_S, Run, settings_text
from tourney_ray.driver.cluster import LocalCluster
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.errors import StorageUnavailable
from tourney_ray.samples.repositories import write_base_contestant, write_sample_repositories
from tourney_ray.samples.servers import sample_key, serve_samples

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(480)]

PAUSE_S = 2.0
"""Between two sweeps: each of them takes a core, which the tournament needs as well."""

NOTHING = "[retention]\nimages_gib = 0.0\ncaches_gib = 0.0\nartifacts_gib = 0.0\n[cluster]"
DAYS_AGO = time.time() - 3 * 24 * 3600
FINISHED = """
    SELECT checkpoint, provenance FROM attempts JOIN tournaments USING (tournament_id)
    WHERE provenance <> '' AND tournaments.status = 'active'
"""


@dataclass
class Swept:
    """A tournament that was held while all that it had on record was made old and swept, over and over."""

    folder: Path
    document: dict[str, Any]
    where: tuple[str, ...]
    removed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """While it was held."""
    sweeps: int = 0
    nodes: int = 0

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "kept"))


@pytest.fixture(scope="module")
def swept(cluster: LocalCluster, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Generator[Swept]:
    folder = tmp_path_factory.mktemp("swept")
    base, samples = write_base_contestant(folder / "miners"), write_sample_repositories(folder / "miners", 4)
    with serve_samples(samples) as miners:
        (folder / "miners.json").write_text(json.dumps([m.model_dump() for m in miners]))
        transfers = [{"id": m.hotkey, "coldkey": m.coldkey, "rao": 10**9} for m in miners]
        (folder / "transfers.json").write_text(json.dumps(transfers))
        text = settings_text(sample_key(base.name, "hotkey"), base).replace('name = "small"', 'name = "swept"')
        (folder / "tournament.toml").write_text('artifacts = "kept"\n' + text.replace("[cluster]", NOTHING))
        where = ("--address", cluster.address, "--name", "swept")
        command = [str(BIN / "tourney"), "run", str(folder / "tournament.toml"), "--address", cluster.address, "--json"]
        with (folder / "out.json").open("w") as out, (folder / "log.txt").open("w") as log:
            running = subprocess.Popen(command, env=os.environ | cluster.environment, stdout=out, stderr=log)
        held = Swept(folder, {}, where)
        try:
            until = time.monotonic() + PATIENCE_S
            while running.poll() is None:
                assert time.monotonic() < until, (folder / "log.txt").read_text()
                _sweep_once(held, run)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(PAUSE_S)
        finally:
            running.kill()
            running.wait()
        held.document = json.loads((folder / "out.json").read_text())
        yield held
        run("tourney", "stop", *where)


def test_the_tournament_has_lost_nothing(swept: Swept) -> None:
    assert swept.document["champion"]
    assert {a["blame"] for a in swept.document["attempts"] if a["status"] != "success"} <= {"miner"}
    assert swept.sweeps >= 1
    assert swept.nodes == 2


def test_nothing_of_it_was_removed_while_it_was_held(swept: Swept) -> None:
    checkpoints = {a["checkpoint"].removeprefix("sha256:") for a in swept.document["attempts"] if a["checkpoint"]}
    assert not checkpoints & {Path(one["name"]).name for one in swept.removed if one["what"] == "checkpoint"}


def test_afterwards_the_records_are_left_and_what_won_the_title(swept: Swept, run: Run) -> None:
    for path in (swept.folder / "kept").glob("objects/??/*"):
        os.utime(path, (DAYS_AGO, DAYS_AGO))
    done = run("tourney", "gc", *swept.where, "--json")
    assert done.returncode == 0, done.stderr
    attempts = swept.document["attempts"]
    left = {
        a["hotkey"] for a in attempts if a["checkpoint"] and swept.store.has(a["checkpoint"].removeprefix("sha256:"))
    }
    assert left == {swept.document["champion"]}
    for attempt in attempts:
        record = run("tourney", "provenance", *swept.where, attempt["attempt_id"])
        assert record.returncode == 0, record.stderr
        assert json.loads(record.stdout)["hotkey"] == attempt["hotkey"]


def test_a_checkpoint_is_checked_out_by_the_drivers_settings(swept: Swept, run: Run, tmp_path: Path) -> None:
    last = {task["task_id"] for m in swept.document["rounds"][-1]["matches"] for task in m["tasks"]}
    attempt = next(
        a
        for a in swept.document["attempts"]
        if a["hotkey"] == swept.document["champion"] and a["task_id"] in last and a["checkpoint"]
    )
    done = run("tourney", "checkout", *swept.where, attempt["checkpoint"], str(tmp_path / "checkpoint"))
    assert done.returncode == 0, done.stderr
    assert any(path.suffix == ".safetensors" for path in (tmp_path / "checkpoint").iterdir())


def test_the_file_of_another_tournament_is_not_taken_for_this_one(
    swept: Swept, run: Run, cluster: LocalCluster
) -> None:
    other = swept.folder / "other.toml"
    other.write_text((swept.folder / "tournament.toml").read_text().replace('state = "state"', 'state = "elsewhere"'))
    done = run("tourney", "gc", "--settings", str(other), "--address", cluster.address)
    assert done.returncode == 2
    note, error, _ = done.stderr.splitlines()
    assert note == f"note: this machine only, by its journal: the driver swept is at work in {swept.folder / 'state'}"
    assert error == f"error: there is no journal at {swept.folder / 'elsewhere'}"


def _sweep_once(held: Swept, run: Run) -> None:
    """Make old what is on record, and sweep, as long as the tournament is under way."""
    finished = _finished(held, run)
    try:
        _make_old(held, finished)
    except (StorageUnavailable, FileNotFoundError):  # the driver sweeps, too, once the tournament is over
        again = _query(held, run)
        if again.returncode or again.stdout:
            raise
        return
    if not finished:
        return
    for tree in (held.folder / "state").glob("repos/trees/*"):
        os.utime(tree, (DAYS_AGO, DAYS_AGO))
    done = run("tourney", "gc", *held.where, "--json")
    assert done.returncode == 0, done.stderr
    if _finished(held, run):
        nodes = json.loads(done.stdout)
        held.nodes, held.sweeps = len(nodes), held.sweeps + 1
        held.removed += [one for node in nodes for part in node["swept"] for one in part["removed"]]


def _make_old(held: Swept, attempts: list[dict[str, Any]]) -> None:
    for name in {name for attempt in attempts for name in _objects(held.store, attempt)}:
        os.utime(held.folder / "kept" / "objects" / name[:2] / name, (DAYS_AGO, DAYS_AGO))


def _finished(held: Swept, run: Run) -> list[dict[str, Any]]:
    """Attempts of the tournament that are on record; none before its first and after its end."""
    rows = _query(held, run)
    return [json.loads(line) for line in rows.stdout.splitlines()] if rows.returncode == 0 else []


def _query(held: Swept, run: Run) -> subprocess.CompletedProcess[str]:
    return run("tourney", "query", *held.where, FINISHED)


def _objects(store: ArtifactStore, attempt: dict[str, Any]) -> list[str]:
    """All that is kept of an attempt, but for its logs."""
    record, checkpoint = (str(attempt[name] or "").removeprefix("sha256:") for name in ("provenance", "checkpoint"))
    return [record, *((checkpoint, *store.manifest(checkpoint).names()) if checkpoint else ())]
