"""`tourney gc`, `checkout` and `provenance` on the folder of a tournament, in processes of their own."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.kept import OLD, Kept, tournament
from tests.cli.test_app import Done, refused, tourney
from tourney_ray.cli.gc import notes, table
from tourney_ray.effects.provenance import Left, Provenance
from tourney_ray.effects.retention import NodeSwept, Removed, Swept


@pytest.fixture
def over(tmp_path: Path) -> Kept:
    """A tournament that ended yesterday."""
    kept = tournament(tmp_path)
    kept.grow_old()
    return kept


def gc(kept: Kept, *words: str, **limits: float) -> Done:
    return tourney("gc", "--settings", kept.settings(**limits), *words)


def swept(done: Done) -> dict[str, Any]:
    """By what was swept, of the only node."""
    assert done.returncode == 0, done.stderr
    (node,) = json.loads(done.stdout)
    return {one["what"]: one for one in node["swept"]}


# --- gc


def test_below_the_limits_nothing_goes(over: Kept) -> None:
    done = gc(over)
    assert done.returncode == 0, done.stderr
    headings, caches, artifacts = done.stdout.splitlines()
    assert re.split(r" {2,}", headings) == [
        "node",
        "what",
        "removed",
        "freed bytes",
        "kept",
        "kept bytes",
        "limit bytes",
    ]
    assert caches.split()[1:] == ["caches", "0", "0", "0", "0", str(2**30)]
    assert artifacts.split()[1:4] == ["artifacts", "0", "0"]
    assert over.held() == over.checkpoints.keys()
    assert re.fullmatch(r"note: this machine only, by its journal: no Ray cluster at 127\.0\.0\.1:1: .*\n", done.stderr)


def test_beyond_them_the_past_goes_and_what_won_the_title_stays_with_every_record(over: Kept) -> None:
    before = sum(path.stat().st_blocks * 512 for path in (over.folder / "kept").rglob("*") if path.is_file())
    artifacts = swept(gc(over, "--json", artifacts_gib=0.0))["artifacts"]
    after = sum(path.stat().st_blocks * 512 for path in (over.folder / "kept").rglob("*") if path.is_file())
    assert {one["what"] for one in artifacts["removed"]} == {"checkpoint"}
    assert sum(one["bytes"] for one in artifacts["removed"]) == before - after > 0
    assert artifacts["kept_bytes"] == after
    assert over.held()
    assert all(over.champion in attempt for attempt in over.held())
    attempt = next(iter(over.checkpoints.keys() - over.held()))
    done = tourney("provenance", "--settings", over.settings(), attempt)
    assert json.loads(done.stdout) == over.records[attempt].model_dump(mode="json")


def test_a_dry_run_says_so_and_leaves_all(over: Kept) -> None:
    dry = swept(gc(over, "--json", "--dry-run", artifacts_gib=0.0))
    assert over.held() == over.checkpoints.keys()
    assert swept(gc(over, "--json", artifacts_gib=0.0)) == dry
    assert over.held() < over.checkpoints.keys()


def test_of_a_live_tournament_everything_stays_and_it_is_said_that_this_is_too_much(tmp_path: Path) -> None:
    kept = tournament(tmp_path, ends=False)
    kept.grow_old()
    done = gc(kept, artifacts_gib=0.0)
    assert done.returncode == 0, done.stderr
    assert kept.held() == kept.checkpoints.keys() != set()
    assert re.search(r"note: \S+: artifacts are \d+ bytes over their limit, all of them needed or young\n", done.stderr)


def test_caches_go_by_their_own_limit(over: Kept) -> None:
    cache = over.state / "cache" / "task-of-old"
    cache.mkdir(parents=True)
    (cache / "rows").write_bytes(b"x" * 4096)
    os.utime(cache, (OLD.timestamp(), OLD.timestamp()))
    assert swept(gc(over, "--json"))["caches"]["kept_bytes"] == 4096
    (removed,) = swept(gc(over, "--json", caches_gib=0.0))["caches"]["removed"]
    assert (removed["what"], removed["name"], removed["bytes"]) == ("task data", str(cache), 4096)
    assert not cache.exists()


def test_where_nothing_tells_what_is_needed_nothing_goes(over: Kept) -> None:
    for path in over.state.glob("journal.*"):
        path.unlink()
    done = gc(over, artifacts_gib=0.0)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr
    assert "neither journal.duckdb nor journal.jsonl" in done.stderr
    assert over.held() == over.checkpoints.keys()


def test_what_cannot_be_swept_is_told_after_what_could(over: Kept) -> None:
    attempt = next(a for a in over.checkpoints if over.champion in a and a in _title(over))
    path = over.folder / "kept" / "objects" / over.checkpoints[attempt][:2] / over.checkpoints[attempt]
    path.chmod(0o600)
    path.write_bytes(b"spoilt")
    done = gc(over, artifacts_gib=0.0)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert re.search(r"^error: not everything was swept: artifacts of \S+: object .* is spoilt", done.stderr, re.M)


def _title(over: Kept) -> set[str]:
    """The attempts that won the title: what stays when nothing else may."""
    removed = swept(gc(over, "--json", "--dry-run", artifacts_gib=0.0))["artifacts"]["removed"]
    return {a for a, digest in over.checkpoints.items() if digest not in {one["name"] for one in removed}}


def test_without_a_file_and_without_a_driver_there_is_nothing_to_sweep() -> None:
    assert refused(tourney("gc", "--address", "127.0.0.1:1"), code=2).startswith("no Ray cluster at 127.0.0.1:1: ")


def test_columns_are_in_line_and_numbers_exact() -> None:
    gone = Removed(what="image", name="sha256:1", bytes=12_345_678_901, used_at=OLD)
    images = Swept(what="images", removed=(gone,), kept=2, kept_bytes=9, limit_bytes=8, left=("image x: in use",))
    nodes = [
        NodeSwept(node="a" * 56, swept=(images, Swept(what="artifacts", trouble="no answer"))),
        NodeSwept(node="b", trouble="its node was lost"),
        NodeSwept(node="c", swept=(Swept(what="caches"),)),
    ]
    assert table(nodes) == [
        "node          what    removed  freed bytes  kept  kept bytes  limit bytes",
        "aaaaaaaaaaaa  images        1  12345678901     2           9            8",
        "c             caches        0            0     0           0            0",
    ]
    assert list(notes(nodes)) == [
        "aaaaaaaaaaaa: image x: in use",
        "aaaaaaaaaaaa: images are 1 bytes over their limit, all of them needed or young",
    ]


# --- checkout


def test_a_checkpoint_is_copied_whole_and_shares_nothing_with_the_store(over: Kept, tmp_path: Path) -> None:
    attempt, digest = next(iter(over.checkpoints.items()))
    target = tmp_path / "new" / "folder"
    done = tourney("checkout", "--settings", over.settings(), f"sha256:{digest}", target)
    assert done.stdout == f"{target}\n", done.stderr
    assert (target / "weights").read_bytes().startswith(attempt.encode())
    assert (target / "weights").stat().st_nlink == 1
    error = refused(tourney("checkout", "--settings", over.settings(), digest, target), code=2)
    assert error == f"{target} is there already"


def test_what_cannot_be_checked_out_is_named(over: Kept, tmp_path: Path) -> None:
    settings, target = over.settings(), tmp_path / "target"
    error = refused(tourney("checkout", "--settings", settings, "cafe", target), code=2)
    assert error == "'cafe' is no digest: expected sha256: and 64 hex digits"
    error = refused(tourney("checkout", "--settings", settings, "0" * 64, target), code=2)
    assert error == f"{'0' * 64} is not in {over.folder / 'kept'}"
    digest = next(iter(over.checkpoints.values()))
    (file,) = over.store.manifest(digest).names()
    path = over.folder / "kept" / "objects" / file[:2] / file
    path.chmod(0o600)
    path.write_bytes(b"spoilt")
    assert "is spoilt" in refused(tourney("checkout", "--settings", settings, digest, target), code=1)
    assert not target.exists()
    gone = tmp_path / "gone.toml"
    assert refused(tourney("checkout", "--settings", gone, digest, target), code=2).startswith(str(gone))


# --- provenance


def test_a_record_is_printed_as_it_was_kept(over: Kept) -> None:
    attempt, record = next(iter(over.records.items()))
    done = tourney("provenance", "--settings", over.settings(), attempt)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == record.model_dump(mode="json")


def test_an_attempt_that_nobody_knows(over: Kept) -> None:
    done = tourney("provenance", "--settings", over.settings(), "nobody/1")
    assert done.returncode == 2
    assert "error: there is no attempt nobody/1\n" in done.stderr


def test_a_record_that_is_gone_or_of_another_attempt_is_not_shown(over: Kept) -> None:
    attempt, record = next(iter(over.records.items()))
    digest = over.record_digest(attempt)
    path = over.folder / "kept" / "objects" / digest[:2] / digest
    path.chmod(0o600)
    path.write_text(record.model_copy(update={"epoch": 7}).model_dump_json())
    done = tourney("provenance", "--settings", over.settings(), attempt)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is spoilt" in done.stderr
    path.unlink()
    done = tourney("provenance", "--settings", over.settings(), attempt)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"object {digest} is not in" in done.stderr


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ({"attempt_id": "another/1"}, r"the record that the journal names for \S+ is of attempt another/1"),
        (
            {"left": Left(output="e" * 64)},
            r"attempt \S+ left e{64} by its record, and sha256:[0-9a-f]{64} by the journal",
        ),
    ],
)
def test_a_record_that_contradicts_the_journal_is_a_difference(tmp_path: Path, lie: dict[str, Any], why: str) -> None:
    def lying(record: Provenance) -> Provenance:
        return record.model_copy(update=lie)

    kept = tournament(tmp_path, ends=False, told=lying)
    done = tourney("provenance", "--settings", kept.settings(), next(iter(kept.records)))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(f"^error: {why}$", done.stderr, re.MULTILINE), done.stderr
