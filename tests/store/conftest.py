"""A journal of a whole tournament, written once and copied for each test that spoils one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

from tests.builders import Played, play
from tourney_ray.store.journal import Journal


@pytest.fixture(scope="session")
def played() -> Played:
    return play(8)


@pytest.fixture(scope="session")
def template(played: Played, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    journal = Journal.open(folder)
    for at, facts in groupby(played.facts, key=lambda pair: pair[1]):
        journal.append([fact for fact, _ in facts], at)
    journal.close()
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """The folder of a closed journal of `played`."""
    return Path(shutil.copytree(template, tmp_path / "state"))


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Journal]]:
    """`Journal.open`, with what it opened closed at the end."""
    journals: list[Journal] = []

    def open_it(path: Path) -> Journal:
        journals.append(Journal.open(path))
        return journals[-1]

    yield open_it
    for journal in journals:
        journal.close()
