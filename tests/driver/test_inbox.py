"""What the driver takes in at a time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tourney_ray.core.events import AttemptRunning, LeaseEnded
from tourney_ray.driver import inbox as module
from tourney_ray.driver.inbox import Inbox
from tourney_ray.driver.loop import Outcome

WHERE: dict[str, Any] = {"tournament_id": "t", "task_id": "task", "hotkey": "m", "attempt_id": "task.m.1"}
RUNS = Outcome("train/task.m.1", (AttemptRunning(**WHERE),), done=False)
FREE = Outcome("train/task.m.1", (LeaseEnded(**WHERE, because="it is gone"),), done=False)
OVER = Outcome("train/task.m.1")


async def test_all_that_is_there_is_taken_at_once() -> None:
    inbox = Inbox()
    for letter in (RUNS, FREE, OVER):
        inbox.put(letter)
    assert await inbox.take(None) == [RUNS, FREE, OVER]


async def test_nothing_comes_for_as_long_as_anybody_waits() -> None:
    assert await Inbox().take(0.0) == []


@pytest.mark.parametrize("urgent", [FREE, OVER], ids=["GPUs are free", "a command is done"])
async def test_what_runs_is_told_with_what_comes_after_it(urgent: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOMENT_S", 60.0)
    inbox = Inbox()
    inbox.put(RUNS)
    taking = asyncio.create_task(inbox.take(None))
    for letter in (RUNS, urgent):
        await asyncio.sleep(0)
        assert not taking.done()
        inbox.put(letter)
    assert await taking == [RUNS, RUNS, urgent]


async def test_what_runs_is_told_by_itself_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOMENT_S", 0.01)
    inbox = Inbox()
    inbox.put(RUNS)
    began = time.monotonic()
    assert await inbox.take(None) == [RUNS]
    assert time.monotonic() - began >= module.MOMENT_S


async def test_anything_else_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOMENT_S", 60.0)
    inbox = Inbox()
    inbox.put(FREE)
    async with asyncio.timeout(30.0):
        assert await inbox.take(None) == [FREE]


async def test_who_stops_waiting_loses_nothing_that_comes_later() -> None:
    inbox = Inbox()
    taking = asyncio.create_task(inbox.take(None))
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    inbox.put(OVER)
    assert await inbox.take(None) == [OVER]
