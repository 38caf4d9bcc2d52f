"""Bringing one node below its limits of images, caches and artifacts: what each of them came to, or why it could not.

Knows no Ray. May run at any time, beside everything else on the node, and be ended at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Generator, Sequence
from datetime import UTC, datetime
from typing import Any

from tourney_ray.config import Settings
from tourney_ray.core.holdings import Holdings
from tourney_ray.driver.folders import artifact_store, builds_folder, caches
from tourney_ray.effects.engine.connection import connect
from tourney_ray.effects.engine.images import ImageSweep
from tourney_ray.effects.file_lock import alone
from tourney_ray.effects.retention import Mark, NodeSwept, Swept, mark_of
from tourney_ray.effects.retention_artifacts import sweep_artifacts
from tourney_ray.effects.retention_caches import sweep_caches
from tourney_ray.errors import PlatformFault, StorageUnavailable

log = logging.getLogger(__name__)

GIB = 2**30
Ask = Callable[[], Holdings]
"""What is needed at the moment of asking."""


def sweep_node(settings: Settings, ask: Ask, with_artifacts: bool, dry_run: bool) -> tuple[Swept, ...]:
    """What came of the node where this runs, one sweep at a time. With `dry_run`: what would come of it.

    `with_artifacts`: whether the store of artifacts is for this node to sweep. Raises what `ask` raises, and
    `StorageUnavailable` where this node has no place for the tournament's state.
    """
    with _one_at_a_time(settings):
        mark = mark_of(ask, datetime.now(UTC))
        limits = settings.retention
        swept = [_told("caches", lambda: sweep_caches(caches(settings), mark, _bytes(limits.caches_gib), dry_run))]
        if settings.sandbox.kind == "docker":
            swept.insert(0, _told("images", lambda: _images(settings, ask, mark, dry_run)))
        if with_artifacts:
            store, most = artifact_store(settings), _bytes(limits.artifacts_gib)
            swept.append(_told("artifacts", lambda: sweep_artifacts(store, mark, most, dry_run)))
        return tuple(swept)


class Sweeper:
    """Has the nodes swept beside everything else. What keeps them from it is logged and stops nothing."""

    def __init__(self, sweep: Callable[[], Coroutine[Any, Any, Sequence[NodeSwept]]]) -> None:
        self._sweep = sweep
        self._under_way: set[asyncio.Task[Sequence[NodeSwept]]] = set()

    def begin(self) -> None:
        """Begin a sweep; needs a running event loop."""
        sweeping = asyncio.get_running_loop().create_task(self._sweep())
        self._under_way.add(sweeping)
        sweeping.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Wait for nothing any more; what nodes have begun they finish."""
        for sweeping in self._under_way:
            sweeping.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _ended(self, sweeping: asyncio.Task[Sequence[NodeSwept]]) -> None:
        self._under_way.discard(sweeping)
        if sweeping.cancelled():
            return
        if error := sweeping.exception():
            log.error("the nodes could not be swept", exc_info=error)
            return
        for node in sweeping.result():
            for trouble in filter(None, (node.trouble, *(one.trouble for one in node.swept))):
                log.warning("%s was not swept to the end: %s", node.node, trouble)
            for one in node.swept:
                log.info("%s: %d %s removed, %d bytes freed", node.node, len(one.removed), one.what, one.freed_bytes)


@contextlib.contextmanager
def _one_at_a_time(settings: Settings) -> Generator[None]:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(alone(settings.state / "gc.lock"))
        except OSError as problem:
            raise StorageUnavailable(
                f"nothing can be swept in {settings.state}: {problem}", "see its disk"
            ) from problem
        yield


def _images(settings: Settings, ask: Ask, mark: Mark, dry_run: bool) -> Swept:
    with contextlib.closing(connect(settings.sandbox.host)) as engine:
        sweep = ImageSweep(engine, builds_folder(settings), ask)
        return sweep.run(mark, _bytes(settings.retention.images_gib), dry_run)


def _told(what: str, call: Callable[[], Swept]) -> Swept:
    """What came of it; a fault as its trouble, so that it keeps nothing else from being swept."""
    try:
        return call()
    except PlatformFault as fault:
        return Swept(what=what, trouble=f"{fault.message}; {fault.hint}" if fault.hint else fault.message)


def _bytes(gib: float) -> int:
    return int(gib * GIB)
