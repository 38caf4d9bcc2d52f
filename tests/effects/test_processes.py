"""Ending processes by identity: all of a session, and never a stranger that got the same id."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tourney_ray.effects.processes import end, mark_of, survivors
from tourney_ray.errors import EngineDown

WAIT = "import select; select.select([], [], [], 60)"
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-c", {WAIT!r}])
print(child.pid, flush=True)
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[str]]:
    """A process that leads a session of its own."""
    with subprocess.Popen([sys.executable, "-I", "-c", WAIT], start_new_session=True, text=True) as process:
        yield process
        process.kill()


def test_end_returns_when_the_process_is_gone(sleeper: subprocess.Popen[str]) -> None:
    mark = mark_of(sleeper.pid)
    assert mark
    assert survivors([mark]) == [mark]
    end([mark])
    assert survivors([mark]) == []
    assert sleeper.wait() == -9


def test_another_process_of_the_same_id_is_left_alone(sleeper: subprocess.Popen[str]) -> None:
    mark = mark_of(sleeper.pid)
    assert mark
    end([replace(mark, start_ticks=mark.start_ticks - 1)])
    assert sleeper.poll() is None


def test_orphans_of_a_session_are_found_after_their_leader_is_gone() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-c", PARENT + WAIT], start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as leader:
        assert leader.stdout
        child = int(leader.stdout.readline())
        mark = mark_of(leader.pid)
        leader.kill()
    assert mark
    assert [orphan.pid for orphan in survivors([mark])] == [child]
    end([mark])
    assert survivors([mark]) == []


def test_what_cannot_be_ended_in_time_is_an_error(sleeper: subprocess.Popen[str]) -> None:
    mark = mark_of(sleeper.pid)
    assert mark
    with pytest.raises(EngineDown, match="cannot be ended"):
        end([mark], patience_s=-1.0)


def test_nothing_has_no_mark() -> None:
    with subprocess.Popen([sys.executable, "-I", "-c", ""]) as gone:
        pass
    assert mark_of(gone.pid) is None
    assert mark_of(os.getpid()) is not None
