"""The driver's loop dying at any moment, and two drivers at one journal."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.builders import START
from tests.driver.scripted import OpenRig, Rig, champion, intents, trainings, trains
from tourney_ray.core import events as e
from tourney_ray.core.chain import Entry
from tourney_ray.core.commands import Evaluate, Train
from tourney_ray.errors import JournalConflict
from tourney_ray.store.journal import Journal

SECOND_DRIVER = """
import sys
from pathlib import Path
from tourney_ray.errors import NotAllowed
from tourney_ray.store.journal import Journal

try:
    Journal.open(Path(sys.argv[1]))
except NotAllowed as refused:
    print(refused.message)
"""


class Crash(Exception):
    """The process is gone."""


class Mortal:
    """A journal whose process dies at its n-th append from now: before it is written, or right after."""

    def __init__(self, journal: Journal, appends: int, written: bool) -> None:
        self._journal = journal
        self._left = appends
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, facts: Sequence[e.Fact], at: datetime) -> Sequence[Entry]:
        self._left -= 1
        if not self._left and not self._written:
            raise Crash
        entries = self._journal.append(facts, at)
        if not self._left:
            raise Crash
        return entries


@pytest.mark.parametrize(("appends", "written"), [(1, True), (2, False), (5, True)])
def test_a_driver_that_dies_at_every_append_ends_with_the_same_champion(
    rig: OpenRig, appends: int, written: bool
) -> None:
    lives, now = 0, START
    while True:
        lives += 1
        r = rig(now=now)
        trained_before = {a.attempt_id for one in trainings(r.journal) for a in one.attempts if not a.ended_at}
        started_before = intents(r.journal)
        r.journal = Mortal(r.journal, appends, written)  # pyright: ignore[reportAttributeAccessIssue]
        r.loop.journal = r.journal
        try:
            r.go_on(pick=random.Random(lives).choice)
            break
        except Crash:
            now = r.now
        finally:
            check_taken_over(r, trained_before, started_before)
    assert lives > 30 / appends
    assert champion(r.journal) == "m03"
    assert all(len(one.attempts) == 1 for one in trainings(r.journal)), "a crash costs nobody an attempt"


def check_taken_over(r: Rig, trained_before: set[str], started_before: set[str]) -> None:
    """What trained when the driver died is watched under the same id without a second intent; the rest is new."""
    for command in r.dispatcher.dispatched:
        if isinstance(command, Train):
            assert command.command_id == f"train/{command.spec.attempt_id}"
            assert (command.intent is None) == (command.spec.attempt_id in started_before)
    watched = {c.spec.attempt_id for c in r.dispatcher.dispatched if isinstance(c, Train) and c.intent is None}
    assert watched == trained_before
    assert len(set(r.ids)) == len(r.ids)


def test_what_was_in_flight_is_started_again_and_nothing_else(rig: OpenRig) -> None:
    r = rig()
    r.go_on(trains)
    r.finish(r.running[0])
    expected, now = {command.command_id for command in r.running}, r.now
    again = rig(now=now)
    again.step()
    assert set(again.ids) == expected
    assert again.only(Evaluate)


def test_a_second_driver_in_another_process_cannot_open_the_journal(rig: OpenRig, tmp_path: Path) -> None:
    rig().step()
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", SECOND_DRIVER, str(tmp_path / "state")]
    env = {**os.environ, "PYTHONPATH": str(root)}
    said = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, check=True).stdout
    assert "is in use by" in said
    assert f"(PID {os.getpid()})" in said


def test_of_two_drivers_in_one_process_the_second_is_refused_at_its_first_fact(tmp_path: Path) -> None:
    one, other = Rig(Journal.open(tmp_path)), Rig(Journal.open(tmp_path))
    one.go_on(trains)
    with pytest.raises(JournalConflict, match="this writer knows 0"):
        other.step()
    one.go_on()
    assert champion(one.journal) == "m03"
    other.journal.close()
    one.journal.close()
