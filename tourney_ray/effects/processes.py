"""Processes by identity: finding and ending all that is left of a session, without ever hitting a stranger.

A process id may be used again; together with the moment of its start it is not. Linux only (`/proc`, pidfd).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tourney_ray.errors import EngineDown

PATIENCE_S = 10.0
"""How long a killed process may take to be gone before its machine counts as broken."""


@dataclass(frozen=True)
class ProcessMark:
    """One process, for ever: its id and its start in ticks since the machine's."""

    pid: int
    start_ticks: int


@dataclass(frozen=True)
class _Stat:
    mark: ProcessMark
    state: str
    group: int
    session: int


def this_machine() -> str:
    """Where and since when process ids mean what they mean here: the boot of this machine and the process namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def mark_of(pid: int) -> ProcessMark | None:
    """The mark of a process; None when there is none of that id."""
    stat = _read_stat(pid)
    return stat.mark if stat else None


def survivors(leaders: Sequence[ProcessMark]) -> list[ProcessMark]:
    """All living processes in the sessions or groups that `leaders` began, the leaders among them; zombies are dead."""
    stats = {stat.mark.pid: stat for stat in _all_stats()}
    begun = {leader.pid: leader for leader in leaders if not _is_used_again(leader, stats)}
    return [
        stat.mark
        for stat in stats.values()
        for leader in (begun.get(stat.session) or begun.get(stat.group),)
        if leader and stat.state not in "ZX" and stat.mark.start_ticks >= leader.start_ticks
    ]


def send(leaders: Sequence[ProcessMark], number: signal.Signals) -> None:
    """Send a signal to all survivors of the sessions of `leaders`."""
    for mark in survivors(leaders):
        with _opened(mark) as descriptor:
            if descriptor is not None:
                _signal(descriptor, number)


def end(leaders: Sequence[ProcessMark], patience_s: float = PATIENCE_S) -> None:
    """Kill the sessions of `leaders` and return once all of it is gone.

    Raises `EngineDown` when something outlives its patience: what it held (a GPU) must not be given away.
    """
    until = time.monotonic() + patience_s
    while left := survivors(leaders):
        if time.monotonic() > until:
            raise EngineDown(f"process {left[0].pid} of a training cannot be ended", "look at that machine")
        _kill(left, until)


def _kill(marks: Sequence[ProcessMark], until: float) -> None:
    """Kill every one of `marks` and wait until they are gone or the time is."""
    with contextlib.ExitStack() as opened:
        descriptors = [opened.enter_context(_opened(mark)) for mark in marks]
        alive = [descriptor for descriptor in descriptors if descriptor is not None]
        for descriptor in alive:
            _signal(descriptor, signal.SIGKILL)
        for descriptor in alive:
            select.select([descriptor], [], [], max(0.0, until - time.monotonic()))


def _signal(descriptor: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)


@contextlib.contextmanager
def _opened(mark: ProcessMark) -> Generator[int | None]:
    """A descriptor of exactly that process; None when it is gone."""
    try:
        descriptor = os.pidfd_open(mark.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor if mark_of(mark.pid) == mark else None
    finally:
        os.close(descriptor)


def _is_used_again(leader: ProcessMark, stats: dict[int, _Stat]) -> bool:
    """Whether another process bears the leader's id: then nothing of its session is left, or the id were taken."""
    stat = stats.get(leader.pid)
    return stat is not None and stat.mark != leader


def _all_stats() -> Iterator[_Stat]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (stat := _read_stat(int(entry.name))):
            yield stat


def _read_stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return _Stat(ProcessMark(pid, int(fields[19])), fields[0], int(fields[2]), int(fields[3]))
