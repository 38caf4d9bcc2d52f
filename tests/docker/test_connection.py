"""Every way in which an engine can fail is told in one line that says which and what to do."""

from __future__ import annotations

import os

import pytest

from tests.docker.engine import PrivateEngine
from tests.docker.troubled import TOO_OLD, answering, as_nobody
from tourney_ray.effects.engine.connection import Engine, connect, translated
from tourney_ray.errors import EngineDown, StorageUnavailable


def test_the_facts_are_the_engines_own(engine: Engine, dockerd: PrivateEngine) -> None:
    facts = engine.facts
    assert facts.root_dir == dockerd.data
    assert facts.cpus == os.cpu_count()
    assert facts.mem_total_bytes > 2**30
    assert facts.storage_driver == "overlay2"
    assert not facts.layer_quota  # ext4
    assert facts.live_restore


def test_an_absent_engine() -> None:
    with pytest.raises(EngineDown, match="no engine listens there") as caught:
        connect("unix:///run/tourney-there-is-none.sock")
    assert "install Docker 20.10 or newer" in caught.value.hint


def test_an_engine_that_this_user_may_not_use(dockerd: PrivateEngine) -> None:
    with as_nobody(), pytest.raises(EngineDown, match="this user may not use it") as caught:
        connect(dockerd.host)
    assert "group `docker`" in caught.value.hint


def test_an_engine_that_is_too_old() -> None:
    words = r"engine 19\.03\.5 speaks API 1\.40, which is too old"
    with (
        answering(TOO_OLD) as host,
        pytest.raises(EngineDown, match=words) as caught,
    ):
        connect(host)
    assert "20.10" in caught.value.hint


def test_an_engine_that_says_nonsense() -> None:
    with answering(["what?"]) as host, pytest.raises(EngineDown, match="is no container engine"):
        connect(host)


def test_a_full_disk_is_the_storages_fault() -> None:
    with pytest.raises(StorageUnavailable, match="its disk is full") as caught, translated("writing"):
        raise OSError(28, "No space left on device")
    assert "make room" in caught.value.hint
