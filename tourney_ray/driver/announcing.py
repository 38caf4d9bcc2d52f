"""Telling Ray's autoscaler, which cannot see the driver's own queue, what runs or waits, while the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ray.autoscaler.sdk import request_resources

from tourney_ray.core.models import GpuRequirement

PAUSE_S = 0.25
"""Between two announcements, at least: the autoscaler looks every few seconds, a round changes by the millisecond."""

Bundles = list[dict[str, int]]


class Announcing:
    """Announces the latest demand, and no other; `begin` runs a coroutine beside the caller."""

    def __init__(
        self,
        begin: Callable[[Coroutine[Any, Any, None], str], None],
        announce: Callable[..., None] = request_resources,
    ) -> None:
        self._begin = begin
        self._announce = announce
        self._latest: Bundles = []
        self._idle = asyncio.Event()
        self._idle.set()

    def tell(self, demand: Sequence[GpuRequirement]) -> None:
        """What is needed from now on."""
        self._latest = [{d.gpu_type: d.gpus, "GPU": d.gpus} for d in demand]
        if self._idle.is_set():
            self._idle.clear()
            self._begin(self._catch_up(), "announce the demand")

    async def withdraw(self) -> None:
        """Ask for nothing any more; returns once the autoscaler has been told."""
        self.tell(())
        await self._idle.wait()

    async def _catch_up(self) -> None:
        told: Bundles | None = None
        try:
            while told != self._latest:
                told = self._latest
                await asyncio.to_thread(self._announce, bundles=told)
                await asyncio.sleep(PAUSE_S)
        finally:
            self._idle.set()
