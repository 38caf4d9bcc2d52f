"""The autoscaler hears the latest demand, and at last that nothing is needed; the loop never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tourney_ray.core.models import GpuRequirement
from tourney_ray.driver import announcing
from tourney_ray.driver.announcing import Announcing

ONE, EIGHT = {"H100": 1, "GPU": 1}, {"H100": 8, "GPU": 8}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(announcing, "PAUSE_S", 0)
    return []


def announcer(told: list[Any], tasks: list[asyncio.Task[None]]) -> Announcing:
    def begin(work: Coroutine[Any, Any, None], name: str) -> None:
        tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    return Announcing(begin, lambda bundles: told.append(bundles))


async def test_only_the_latest_of_many_demands_is_told(told: list[Any]) -> None:
    tasks: list[asyncio.Task[None]] = []
    announcer_ = announcer(told, tasks)
    announcer_.tell([GpuRequirement.H100_1X])
    announcer_.tell([GpuRequirement.H100_8X, GpuRequirement.H100_1X])
    assert told == []
    await asyncio.gather(*tasks)
    assert told == [[EIGHT, ONE]]
    assert len(tasks) == 1


async def test_withdrawn_means_that_nothing_is_asked_for_any_more(told: list[Any]) -> None:
    tasks: list[asyncio.Task[None]] = []
    announcer_ = announcer(told, tasks)
    announcer_.tell([GpuRequirement.H100_1X])
    await asyncio.gather(*tasks)
    await announcer_.withdraw()
    assert told == [[ONE], []]
    await asyncio.gather(*tasks)
