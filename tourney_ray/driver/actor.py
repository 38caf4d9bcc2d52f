"""The driver: a detached, named Ray actor that owns the journal and steps the loop whenever something happened.

After a crash Ray makes it anew; opening the journal and planning is the whole recovery, because watchers of attempts
that were started before take them over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tourney_ray.config import Settings
from tourney_ray.core.chain import Entry
from tourney_ray.core.events import Act, TournamentCancelled, TournamentCompleted
from tourney_ray.core.holdings import Holdings, holdings
from tourney_ray.core.schedule import Agenda
from tourney_ray.driver import work
from tourney_ray.driver.acts import Deed
from tourney_ray.driver.dispatch import RayDispatcher
from tourney_ray.driver.inbox import Inbox, Letter
from tourney_ray.driver.loop import Loop, Outcome
from tourney_ray.driver.opening import STORAGE_PAUSE_S, open_again, open_patiently
from tourney_ray.driver.outcomes import attempt_running
from tourney_ray.driver.sweeping import Sweeper
from tourney_ray.driver.tasks import sweep_nodes
from tourney_ray.effects.retention import NodeSwept
from tourney_ray.errors import InUse, NotAllowed, PlatformFault, StorageUnavailable
from tourney_ray.store.queries import query
from tourney_ray.store.snapshot import snapshot

if TYPE_CHECKING:
    import pyarrow as pa

    from tourney_ray.store.journal import Database

Asked = TypeVar("Asked")

log = logging.getLogger(__name__)

NAMESPACE = "tourney"
LOOK_S = 0.5
"""How often the list of nodes is looked at while something waits: Ray announces no new nodes."""

STEP_AGAIN_S = 10.0
"""How often everything is planned anew while something waits, whatever the nodes."""

ENDS = {TournamentCompleted.__name__, TournamentCancelled.__name__}
"""Kinds of facts after which much that is kept on the nodes is not needed any more."""

TAILS = 1000
"""How many attempts' last words are remembered, the latest; of the others the journal has them."""

TAIL_LENGTH = 2_000


@dataclass(frozen=True, slots=True)
class Update:
    """What a follower has not seen yet."""

    entries: tuple[Entry, ...]
    waits: dict[str, str]
    """What waits, and for what."""
    problems: dict[str, str]
    """What no waiting will mend, and what to do about it."""
    halted: str
    """Why the driver stopped deciding; empty while it goes on."""


class Driver:
    """The owner of the state. Left undecorated, so that it can be tested without Ray's actor machinery."""

    dispatchers: type[RayDispatcher] = RayDispatcher
    """What carries commands out; benchmarks put one in its place that trains nothing."""

    def __init__(self, settings: Settings) -> None:
        """Open the journal and start stepping; needs a running event loop. Raises `UserError` for a bad journal."""
        settings.state.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._journal = open_patiently(settings.state / "journal.duckdb")
        self._entries = list(self._journal.entries())
        self._inbox = Inbox()
        self._news = asyncio.Condition()
        self._halted = self._storage = ""
        self._stopped = False
        self._reads: set[asyncio.Future[Any]] = set()
        self._sweeper = Sweeper(lambda: self.gc(dry_run=False))
        self._tails: dict[str, str] = {}
        self._dispatcher = self.dispatchers(settings, lambda: self._journal.state, self._inbox.put, NAMESPACE)
        self._dispatcher.on_defect = self._halt
        agenda = Agenda(settings.types, settings.endless, settings.rules)
        self._loop = Loop(self._journal, self._dispatcher, agenda)
        self._loop.on_record = self._entries.extend
        self._stepping = asyncio.get_running_loop().create_task(self._run())
        self._stepping.add_done_callback(self._ended)

    async def follow(self, after: int, wait_s: float = 30.0) -> Update:
        """The entries with a higher sequence number, as soon as there are any, at the latest after `wait_s` seconds."""
        async with self._news:
            if len(self._entries) <= after and not self._halted:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), wait_s)
        troubles = {name: why for name, why in self._dispatcher.troubles.items() if self._loop.wants(name)}
        waits = {**self._loop.waits, **troubles}
        if self._storage:
            waits["journal"] = self._storage
        named = self._dispatcher.named(waits)
        return Update(tuple(self._entries[after:]), named, self._dispatcher.problems(), self._halted)

    async def act(self, act: Act) -> int:
        """The sequence number under which the act of a person is recorded, with all that it forces.

        Raises `NotFound` when something that it names is not there, `NotAllowed` when it cannot be done, or not now;
        nothing is recorded then.
        """
        self._need_steps()
        deed = Deed(act, asyncio.get_running_loop().create_future())
        self._inbox.put(deed)
        await asyncio.wait((deed.answer, self._stepping), return_when=asyncio.FIRST_COMPLETED)
        if not deed.answer.done():
            self._need_steps()
        return await deed.answer

    async def settings(self) -> Settings:
        """What this driver was started with."""
        return self._settings

    async def query(self, sql: str) -> pa.Table:
        """The rows of one SELECT over the tables; raises `UserError` for anything else."""
        return await self._read(lambda database: query(database, sql))

    async def snapshot(self, target: Path) -> Path:
        """A copy of the whole database in a file of its own, readable while this driver runs; where it lies."""
        return await self._read(lambda database: snapshot(database, target))

    async def progress(self, command_id: str, gpu_indices: tuple[int, ...] = (), image_id: str = "") -> None:
        """An attempt's code runs, on these GPUs of its node, from that image; called by its watcher."""
        running = attempt_running(self._journal.state, command_id.removeprefix("train/"))
        if running is not None:
            running = running.model_copy(update={"gpu_indices": gpu_indices, "image_id": image_id})
            self._inbox.put(Outcome(command_id, (running,), done=False))

    async def said(self, command_id: str, tail: str) -> None:
        """The end of a running attempt's log; called by its watcher whenever that changes."""
        self._tails[command_id.removeprefix("train/")] = tail[-TAIL_LENGTH:]
        while len(self._tails) > TAILS:
            del self._tails[next(iter(self._tails))]

    async def leased(self, attempt_ids: Collection[str]) -> list[str]:
        """Those of the attempts that hold GPUs at this moment; a node asks before it removes a container."""
        return [attempt_id for attempt_id in attempt_ids if attempt_id in self._journal.state.leases]

    async def holdings(self) -> Holdings:
        """What nobody may remove at this moment; a node asks before it removes anything."""
        return holdings(self._journal.state)

    async def gc(self, dry_run: bool) -> list[NodeSwept]:
        """What came of bringing every node below its limits; with `dry_run`, what would come of it."""
        return await sweep_nodes(self._settings, NAMESPACE, dry_run)

    async def tail(self, attempt_id: str) -> str:
        """The end of an attempt's log, as far as this driver has heard of it; empty when it has not."""
        return self._tails.get(attempt_id, "")

    async def stop(self) -> None:
        """Stop stepping, close the journal and ask the autoscaler for nothing; trainings end with their watchers."""
        self._stepping.cancel()
        self._stopped = True
        await asyncio.gather(self._stepping, self._sweeper.stop(), self._dispatcher.withdraw(), return_exceptions=True)
        await self._close()

    async def _read(self, ask: Callable[[Database], Asked]) -> Asked:
        """What somebody asks of the database, in a thread of its own; the journal stays open until it is answered."""
        if why := "the driver is being stopped" if self._stopped else self._storage:
            raise NotAllowed(f"the journal cannot be read now: {why}", "try again once it is there")
        journal = self._journal
        reading = asyncio.ensure_future(asyncio.to_thread(lambda: ask(journal.database())))
        self._reads.add(reading)
        reading.add_done_callback(self._reads.discard)
        try:
            return await asyncio.shield(reading)
        except StorageUnavailable as trouble:
            raise NotAllowed(f"the journal cannot be read now: {trouble.message}", "try again later") from trouble

    async def _close(self) -> None:
        while self._reads:
            await asyncio.wait(self._reads)
        await asyncio.to_thread(self._journal.close)

    async def _run(self) -> None:
        letters: list[Letter] = []
        while True:
            known = len(self._entries)
            try:
                wake_at = self._turn(letters)
            except PlatformFault as fault:
                await self._wait_for_storage(fault)
                wake_at = work.utc_now()
            if any(entry.kind in ENDS for entry in self._entries[known:]):
                self._sweeper.begin()
            await self._tell()
            letters = await self._next(wake_at)

    def _turn(self, letters: Sequence[Letter]) -> datetime | None:
        """Step with the outcomes, then once more after each thing that a person did; when to step again anyway."""
        deeds = [letter for letter in letters if isinstance(letter, Deed)]
        try:
            outcomes = [letter for letter in letters if isinstance(letter, Outcome)]
            wake_at = self._loop.step(outcomes, work.utc_now())
            for deed in deeds:
                deed.do(self._loop, work.utc_now())
                wake_at = self._loop.step((), work.utc_now())
        except PlatformFault as fault:
            for deed in deeds:
                deed.refuse(_not_now(fault.message))
            raise
        return wake_at

    async def _wait_for_storage(self, fault: PlatformFault) -> None:
        """Nothing can be recorded, so nothing is decided until the journal opens again; what runs goes on.

        Outcomes that were lost with the step come again: their commands are planned anew, and watchers take over.
        """
        log.error("%s %s", fault.message, fault.hint)
        self._storage = f"{fault.message}; tried again every {STORAGE_PAUSE_S:g} s"
        await self._tell()
        await self._close()
        known = self._entries[-1] if self._entries else None
        while self._storage:
            await asyncio.sleep(STORAGE_PAUSE_S)
            try:
                self._journal = self._loop.journal = open_again(self._settings.state / "journal.duckdb", known)
                self._storage = ""
            except (PlatformFault, InUse) as again:
                log.error("%s %s", again.message, again.hint)
        self._entries += self._journal.entries(after=len(self._entries))

    def _need_steps(self) -> None:
        """Raise `NotAllowed`, with the reason, where nothing is recorded any more, or for a while."""
        if self._halted:
            raise NotAllowed(f"the driver halted: {self._halted}", "its journal is intact: run `tourney audit` on it")
        if self._stepping.done():
            raise NotAllowed("the driver is being stopped", "`tourney run` starts it again")
        if self._storage:
            raise _not_now(self._storage)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _ended(self, stepping: asyncio.Task[None]) -> None:
        """A driver that cannot go on says so to whoever follows it; only `stop` ends it otherwise."""
        if stepping.cancelled():
            return
        error = stepping.exception()
        if error is not None:
            self._halt(error)

    def _halt(self, error: BaseException) -> None:
        """Decide nothing any more, and say why; the journal stays as it is."""
        log.error("the driver halted", exc_info=error)
        self._halted = f"{type(error).__name__}: {error}"
        self._stepping.cancel()
        self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def _next(self, wake_at: datetime | None) -> list[Letter]:
        """All that came in, at least one thing unless it is time to step anyway."""
        due_s = (wake_at - work.utc_now()).total_seconds() if wake_at else STEP_AGAIN_S
        until = time.monotonic() + min(due_s, STEP_AGAIN_S) if self._loop.anything_waits or wake_at else math.inf
        nodes = self._dispatcher.cluster().nodes
        while True:
            left_s = until - time.monotonic()
            letters = await self._inbox.take(max(0.0, min(left_s, LOOK_S)) if left_s < math.inf else None)
            if letters or left_s <= LOOK_S or self._dispatcher.cluster().nodes != nodes:
                return letters


def _not_now(why: str) -> NotAllowed:
    return NotAllowed(f"nothing can be recorded now: {why}", "nothing was recorded; try again once the disk is back")
