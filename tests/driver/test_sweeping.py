"""A node is swept by the settings: which limits there are, where things lie, what a fault costs the other parts."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tourney_ray.config import Retention, Sandbox, Settings
from tourney_ray.core.holdings import Holdings
from tourney_ray.driver.folders import artifact_store
from tourney_ray.driver.sweeping import GIB, sweep_node
from tourney_ray.errors import ConfigError

NOTHING = Holdings(*[frozenset()] * 7, collecting_since=None)
OLD = (datetime.now(UTC) - timedelta(days=1)).timestamp()
HALF = Retention(images_gib=0.5, caches_gib=1.5, artifacts_gib=2.5)
NONE = Retention(images_gib=0.0, caches_gib=0.0, artifacts_gib=0.0)


def old_cache(settings: Settings, task: str) -> Path:
    folder = settings.state / "cache" / task
    folder.mkdir(parents=True)
    (folder / "rows").write_bytes(b"x" * 4096)
    os.utime(folder, (OLD, OLD))
    return folder


def old_object(settings: Settings) -> Path:
    digest = artifact_store(settings).put_bytes(b"y" * 4096)
    (path,) = Path(settings.artifacts_at).glob(f"objects/??/{digest}")
    os.utime(path, (OLD, OLD))
    return path


def test_limits_are_those_of_the_settings(settings: Settings) -> None:
    settings = settings.model_copy(update={"retention": HALF})
    swept = sweep_node(settings, lambda: NOTHING, with_artifacts=True, dry_run=False)
    assert {one.what: one.limit_bytes for one in swept} == {"caches": 3 * GIB // 2, "artifacts": 5 * GIB // 2}
    (alone,) = sweep_node(settings, lambda: NOTHING, with_artifacts=False, dry_run=False)
    assert alone.what == "caches"


def test_what_is_needed_is_asked_for(settings: Settings) -> None:
    settings = settings.model_copy(update={"retention": NONE})
    held, free, kept = old_cache(settings, "task-1"), old_cache(settings, "task-2"), old_object(settings)
    needed = replace(NOTHING, tasks=frozenset({"task-1"}), records=frozenset({kept.name}))
    sweep_node(settings, lambda: needed, with_artifacts=True, dry_run=False)
    assert (held.exists(), free.exists(), kept.exists()) == (True, False, True)
    sweep_node(settings, lambda: NOTHING, with_artifacts=True, dry_run=True)
    assert (held.exists(), kept.exists()) == (True, True)
    sweep_node(settings, lambda: NOTHING, with_artifacts=True, dry_run=False)
    assert (held.exists(), kept.exists()) == (False, False)


@pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")  # docker-py's, where nobody listens
def test_an_engine_that_is_away_keeps_nothing_else_from_being_swept(settings: Settings, tmp_path: Path) -> None:
    away = Sandbox(kind="docker", host=f"unix://{tmp_path}/nobody.sock")
    settings = settings.model_copy(update={"retention": NONE, "sandbox": away})
    cache = old_cache(settings, "task-1")
    images, caches, artifacts = sweep_node(settings, lambda: NOTHING, with_artifacts=True, dry_run=False)
    assert "nobody.sock" in images.trouble
    assert (caches.trouble, artifacts.trouble) == ("", "")
    assert not cache.exists()


def test_artifacts_lie_where_the_settings_say(settings: Settings, tmp_path: Path) -> None:
    assert artifact_store(settings).uri == str(settings.state / "data" / "artifacts")
    elsewhere = settings.model_copy(update={"artifacts": f"file://{tmp_path}/kept"})
    digest = artifact_store(elsewhere).put_bytes(b"content")
    assert (tmp_path / "kept" / "objects" / digest[:2] / digest).read_bytes() == b"content"
    with pytest.raises(ConfigError, match="artifacts cannot be kept at nowhere://bucket"):
        artifact_store(settings.model_copy(update={"artifacts": "nowhere://bucket"}))
