"""One life of a driver: a loop on a journal, from its start to its crash, as `driver.actor` runs it on Ray.

Every entry that it records goes through the checker, and against what the virtual cluster knows to be true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from tourney_ray.core.chain import Entry
from tourney_ray.core.checker import Checker
from tourney_ray.core.events import Act, AttemptStarted, Fact, LeaseEnded
from tourney_ray.core.invariants.waits import unexplained
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import State
from tourney_ray.driver.loop import FactLog, Loop, Outcome
from tourney_ray.errors import Defect, JournalConflict, NotAllowed, PlatformFault, StorageUnavailable
from tourney_ray.simulation.effects import VirtualDispatcher
from tourney_ray.simulation.faults import Crash
from tourney_ray.simulation.world import World

STORAGE_PAUSE_S = 5.0


class Opened(FactLog, Protocol):
    """A journal that can be read and closed as well."""

    def entries(self, after: int = 0) -> Iterable[Entry]:
        """The entries beyond that seq."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass
class Disk:
    """Where the journal lies: it outlives every driver. Sees each entry exactly once, in order."""

    open: Callable[[], Opened]
    world: World
    checker: Checker = field(default_factory=Checker)
    full: bool = False
    seen: int = 0

    def see(self, entries: Iterable[Entry]) -> None:
        """Check what has become durable."""
        for entry in entries:
            if entry.seq > self.seen:
                self.seen = entry.seq
                self.world.broken += map(str, self.checker.see(entry.fact))
                self._compare(entry.seq, entry.fact)

    def _compare(self, seq: int, fact: Fact) -> None:
        """Hold what the journal says of leases against the machines."""
        match fact:
            case AttemptStarted():
                self.world.leased[fact.attempt_id] = fact
                if f"{fact.task_id}.{fact.hotkey}" not in self.world.cluster.machines[fact.node].staged:
                    started = f"{fact.attempt_id} was let start on {fact.node}"
                    self.world.broken.append(f"fact {seq}: {started}, where it is not staged")
            case LeaseEnded():
                self.world.leased.pop(fact.attempt_id, None)
                if where := self.world.cluster.running(fact.attempt_id):
                    freed = f"fact {seq} frees the GPUs of {fact.attempt_id}"
                    self.world.broken.append(f"{freed}, which runs on {where.node_id}")
            case _:
                pass


class Handle:
    """A journal that fails as disks and processes do: before or after what it records is durable."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.journal = disk.open()

    @property
    def state(self) -> State:
        """The state after the last fact."""
        return self.journal.state

    def append(self, facts: Sequence[Fact], at: datetime) -> Sequence[Entry]:
        """Record all facts or none; raises what the journal raises, `StorageUnavailable` and `Crash`."""
        self._disk.world.faults.crash()
        if self._disk.full:
            raise StorageUnavailable("no space is left on the virtual disk")
        entries = self.journal.append(facts, at)
        self._disk.see(entries)
        self._disk.world.faults.crash()
        return entries


class Life:
    """A driver's process."""

    def __init__(self, disk: Disk, agenda: Agenda, died: Callable[[Life], None], explains: bool = True) -> None:
        self._disk = disk
        self._world = disk.world
        self._died = died
        self._explains = explains
        self.alive = True
        self._handle = Handle(disk)
        self._dispatcher = VirtualDispatcher(self._world, self)
        self._loop = Loop(self._handle, self._dispatcher, agenda)
        self._wakes = 0

    @property
    def state(self) -> State:
        """What its journal says."""
        return self._loop.journal.state

    def hear(self, outcome: Outcome) -> None:
        """Take an outcome in and step."""
        self.step([outcome])

    def act(self, act: Act) -> None:
        """Do what a person wants, unless it cannot be done now."""
        self._guarded(lambda: self._try(act))
        self.step([])

    def step(self, outcomes: Sequence[Outcome]) -> None:
        """Step the loop, and see to it that it is woken when it wants to be."""
        if self.alive:
            self._guarded(lambda: self._step(outcomes))

    def end(self) -> None:
        """Be gone, with everything that was started by it."""
        if self.alive:
            self.alive = False
            self._handle.journal.close()
            self._died(self)

    def _try(self, act: Act) -> None:
        with suppress(NotAllowed):  # somebody who is told no lets it be
            self._loop.act(act, self._world.clock.shown())

    def _step(self, outcomes: Sequence[Outcome]) -> None:
        wake_at = self._loop.step(outcomes, self._world.clock.shown())
        if self._explains:
            self._explain()
        self._wakes += 1
        if wake_at:
            self._wake_in(self._world.clock.seconds_until(wake_at))

    def _wake_in(self, seconds: float) -> None:
        mine = self._wakes
        self._world.clock.after(seconds, lambda: self.step([]) if mine == self._wakes else None)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Crash:
            self.end()
        except JournalConflict:
            self.end()
        except Defect as defect:
            self._world.broken.append(f"the driver halted: {defect.message}")
            self.end()
        except PlatformFault:
            self._world.clock.after(STORAGE_PAUSE_S, self._reopen)

    def _reopen(self) -> None:
        """The journal once more, as it is on the disk; outcomes that were lost with the failed step come again."""
        if not self.alive:
            return
        self._handle.journal.close()
        self._handle = self._loop.journal = Handle(self._disk)
        self.step([])

    def _explain(self) -> None:
        for key in unexplained(self.state, self._loop.upcoming):
            self._world.broken.append(f"invariant 12: {key} neither runs nor says what it waits for")
