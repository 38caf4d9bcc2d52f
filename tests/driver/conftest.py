"""A driver's loop on a journal of its own, and settings for its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.driver.scripted import RULES, OpenRig, Rig
from tourney_ray.config import Registry, Repositories, Sandbox, Settings
from tourney_ray.store.journal import Journal


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[OpenRig]:
    """A rig on the journal of this test, opened anew at each call; all are closed at the end."""
    opened: list[Journal] = []

    def open_rig(**choices: Any) -> Rig:
        for journal in opened:
            journal.close()
        opened.append(Journal.open(tmp_path / "state"))
        return Rig(opened[-1], **choices)

    yield open_rig
    for journal in opened:
        journal.close()


@pytest.fixture
def settings(need: Callable[[str], str], tmp_path: Path) -> Settings:
    """Settings of a tournament on this machine, whose trainers are plain processes; git is needed for it."""
    need("git")
    return Settings(
        state=tmp_path / "state",
        registry=Registry(miners=tmp_path / "miners.json", answer_deadline_s=2.0),
        repositories=Repositories(allow_file=True),
        sandbox=Sandbox(kind="process"),
        rules=RULES,
    )
