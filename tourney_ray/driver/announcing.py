"""Telling Ray's autoscaler, which cannot see the driver's own queue, what runs or waits, while the loop goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from tourney_ray.core.quoting import shown
from tourney_ray.driver.asking import Bundle
from tourney_ray.effects.cluster_file import MACHINE

log = logging.getLogger(__name__)

PAUSE_S = 0.25
"""Between two announcements, at least: the autoscaler looks every few seconds, a round changes by the millisecond."""

REPEAT_S = 60.0
"""After so long it is told the same again: it listens to the last who spoke, which may have been somebody else."""

RETRY_S = 5.0
"""Pause after an announcement that failed."""


class Announcing:
    """Announces the latest bundles, and no others; `begin` runs a coroutine beside the caller."""

    def __init__(
        self,
        begin: Callable[[Coroutine[Any, Any, None], str], None],
        announce: Callable[..., None] = request_resources,
    ) -> None:
        self._begin = begin
        self._announce = announce
        self._latest = Counter[Bundle]()
        self._told: Counter[Bundle] | None = None
        """None while the autoscaler may have heard of anything."""
        self._told_at = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self.trouble = ""
        """Why the autoscaler could not be told; empty once it was."""
        self._leaving = False

    def tell(self, bundles: Counter[Bundle]) -> None:
        """What is needed from now on."""
        self._latest = bundles
        if self._told is not None and time.monotonic() - self._told_at > REPEAT_S:
            self._told = None
        if self._idle.is_set() and bundles != self._told:
            self._idle.clear()
            self._begin(self._catch_up(), "announce the demand")

    async def withdraw(self) -> None:
        """Ask for nothing any more; returns once the autoscaler has been told, or did not listen."""
        self._leaving = True
        self.tell(Counter())
        await self._idle.wait()

    async def _catch_up(self) -> None:
        try:
            while self._told != self._latest:
                latest = self._latest
                try:
                    await asyncio.to_thread(self._announce, **_spelled(latest))
                except RayError as error:
                    self._failed(error)
                    if self._leaving:
                        return
                    await asyncio.sleep(RETRY_S)
                else:
                    self._told, self._told_at, self.trouble = latest, time.monotonic(), ""
                    await asyncio.sleep(PAUSE_S)
        finally:
            self._idle.set()

    def _failed(self, error: RayError) -> None:
        why = shown(" ".join(str(error).split()), 200)
        self._told = None
        self.trouble = f"Ray's autoscaler cannot be told what is needed: {why}; tried again every {RETRY_S:g} s"
        log.warning("%s", self.trouble)


def _spelled(bundles: Counter[Bundle]) -> dict[str, list[dict[str, Any]]]:
    """As the autoscaler takes them: each with its resources, and the label that its machine has to have."""
    every = sorted(bundles.elements(), key=lambda bundle: (bundle.gpus, bundle.machine), reverse=True)
    return {
        "bundles": [{**dict(b.gpus), "GPU": sum(dict(b.gpus).values())} for b in every],
        "bundle_label_selectors": [{MACHINE: b.machine} if b.machine else {} for b in every],
    }
