"""The autoscaler hears the latest demand, and at last that nothing is needed; the loop never waits for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from ray.exceptions import RpcError

from tourney_ray.driver import announcing
from tourney_ray.driver.announcing import Announcing
from tourney_ray.driver.asking import Bundle

ONE, EIGHT = Bundle((("H100", 1),), "narrow"), Bundle((("H100", 8),))


class Autoscaler:
    """Hears what it is told, unless it is deaf."""

    def __init__(self) -> None:
        self.heard: list[list[tuple[dict[str, int], dict[str, str]]]] = []
        self.deaf = 0
        """How many times it does not answer."""
        self.works: list[asyncio.Task[None]] = []
        self.announcing = Announcing(self._begin, self._hear)

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.works.append(asyncio.get_running_loop().create_task(work, name=name))

    def _hear(self, bundles: list[dict[str, int]], bundle_label_selectors: list[dict[str, str]]) -> None:
        if self.deaf:
            self.deaf -= 1
            raise RpcError("Timed out while waiting for GCS\nto become available.")
        self.heard.append(list(zip(bundles, bundle_label_selectors, strict=True)))


@pytest.fixture
def autoscaler(monkeypatch: pytest.MonkeyPatch) -> Autoscaler:
    monkeypatch.setattr(announcing, "PAUSE_S", 0)
    monkeypatch.setattr(announcing, "RETRY_S", 0)
    return Autoscaler()


async def test_only_the_latest_of_many_demands_is_told_and_no_demand_twice(autoscaler: Autoscaler) -> None:
    autoscaler.announcing.tell(Counter([ONE]))
    autoscaler.announcing.tell(Counter([EIGHT, ONE]))
    assert autoscaler.heard == []
    await asyncio.gather(*autoscaler.works)
    eight, one = ({"H100": 8, "GPU": 8}, {}), ({"H100": 1, "GPU": 1}, {"tourney/machine": "narrow"})
    assert autoscaler.heard == [[eight, one]]
    autoscaler.announcing.tell(Counter([ONE, EIGHT]))
    assert len(autoscaler.works) == 1


async def test_the_same_is_told_again_after_a_while(autoscaler: Autoscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "REPEAT_S", 0)
    for _ in range(2):
        autoscaler.announcing.tell(Counter([ONE]))
        await asyncio.gather(*autoscaler.works)
    assert len(autoscaler.heard) == 2


async def test_withdrawn_means_that_nothing_is_asked_for_any_more(autoscaler: Autoscaler) -> None:
    autoscaler.announcing.tell(Counter([ONE]))
    await asyncio.gather(*autoscaler.works)
    await autoscaler.announcing.withdraw()
    assert [len(bundles) for bundles in autoscaler.heard] == [1, 0]


async def test_an_autoscaler_that_does_not_answer_is_told_again(autoscaler: Autoscaler) -> None:
    autoscaler.deaf = 2
    autoscaler.announcing.tell(Counter([ONE]))
    while autoscaler.deaf:
        await asyncio.sleep(0)
    assert autoscaler.announcing.trouble == (
        "Ray's autoscaler cannot be told what is needed: Timed out while waiting for GCS to become available.; "
        "tried again every 0 s"
    )
    await asyncio.gather(*autoscaler.works)
    assert len(autoscaler.heard) == 1
    assert autoscaler.announcing.trouble == ""


async def test_a_driver_that_ends_does_not_wait_for_one_that_does_not_answer(autoscaler: Autoscaler) -> None:
    autoscaler.deaf = 1
    await autoscaler.announcing.withdraw()
    await asyncio.gather(*autoscaler.works)
    assert autoscaler.heard == []
