"""Control groups: what bounds memory, processes and CPUs of a family of processes, whichever version the kernel has.

Guarantee: a group that was ended is gone, and nothing that was in it runs any more, or `EngineDown` says what does.
Groups bear the process id of who made them: whoever makes the next one ends those whose maker has died.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tourney_ray.errors import EngineDown

GROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
LEAST_US = 1000
"""The kernel takes no smaller share of a period."""

GONE_S = 10.0
AGAIN_S = 0.01


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a group may have of everything."""

    mem_bytes: int
    """Memory and swap together."""
    pids: int
    """Processes and threads."""
    cpus: float


def version_here() -> str:
    """`1` or `2`, as this machine's kernel has its groups mounted; empty where there are none."""
    if (GROUPS / "memory").is_dir() and (GROUPS / "pids").is_dir():
        return "1"
    return "2" if (GROUPS / "cgroup.controllers").is_file() else ""


def new_name(parent: str) -> str:
    """A name below `parent` that nobody else has."""
    return f"{parent}/{os.getpid()}-{secrets.token_hex(6)}"


def make(version: str, name: str, bounds: Bounds) -> None:
    """Make the group `{parent}/{name}` with its bounds; raises `OSError` where a bound cannot be set."""
    quota_us = max(int(bounds.cpus * PERIOD_US), LEAST_US)
    if version == "1":
        _make_first(name, bounds, quota_us)
        return
    parent = GROUPS / name.partition("/")[0]
    parent.mkdir(exist_ok=True)
    for above in (GROUPS, parent):
        (above / "cgroup.subtree_control").write_text("+memory +pids +cpu", encoding="ascii")
    folder = GROUPS / name
    folder.mkdir()
    limits = {"memory.max": bounds.mem_bytes, "memory.swap.max": 0, "pids.max": bounds.pids}
    _write_all(folder, {**limits, "cpu.max": f"{quota_us} {PERIOD_US}"})


def entrances(name: str) -> list[Path]:
    """The files to which a process writes its id to enter the group."""
    return [folder / "cgroup.procs" for folder in folders(name)]


def folders(name: str) -> list[Path]:
    """The group in every hierarchy: an engine makes it in those that bound nothing, too."""
    return [folder for folder in (GROUPS / name, *GROUPS.glob(f"*/{name}")) if folder.is_dir()]


def end(name: str) -> None:
    """Kill what is left in the group, then remove it; raises `EngineDown` when something cannot be ended."""
    until = time.monotonic() + GONE_S
    found = folders(name)
    _kill(found, until)
    for folder in found:
        for below, _, _ in os.walk(folder, topdown=False):
            _remove(Path(below), until)


def end_processes(name: str) -> None:
    """Kill what runs in the group, where nothing starts any more; raises `EngineDown` when something does not end."""
    found = folders(name)
    for folder in found:
        if (folder / "pids.max").exists():
            _write_all(folder, {"pids.max": 0})
    _kill(found, time.monotonic() + GONE_S)


def end_orphans(parent: str) -> None:
    """End the groups below `parent` whose maker has died: they bear its process id."""
    found = [*GROUPS.glob(f"{parent}/*-*"), *GROUPS.glob(f"*/{parent}/*-*")]
    for name in {folder.name for folder in found}:
        owner = name.partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            end(f"{parent}/{name}")


def _make_first(name: str, bounds: Bounds, quota_us: int) -> None:
    memory, processes, time_share = (GROUPS / kind / name for kind in ("memory", "pids", "cpu"))
    for folder in (memory, processes, time_share):
        folder.mkdir(parents=True)
    _write_all(memory, {"memory.limit_in_bytes": bounds.mem_bytes})
    if (memory / "memory.memsw.limit_in_bytes").exists():
        _write_all(memory, {"memory.memsw.limit_in_bytes": bounds.mem_bytes})
    _write_all(processes, {"pids.max": bounds.pids})
    _write_all(time_share, {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": quota_us})


def _write_all(folder: Path, values: Mapping[str, int | str]) -> None:
    for file, value in values.items():
        (folder / file).write_text(str(value), encoding="ascii")


def _kill(found: list[Path], until: float) -> None:
    while left := {pid for folder in found for pid in _processes(folder)}:
        if time.monotonic() > until:
            raise EngineDown(f"process {min(left)} of a control group cannot be ended", "look at that node")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(AGAIN_S)


def _processes(folder: Path) -> list[int]:
    """What runs there and below; groups of steps come and go meanwhile, which a walk does not mind."""
    found: list[int] = []
    for place, _, _ in os.walk(folder):
        try:
            found += [int(line) for line in Path(place, "cgroup.procs").read_text(encoding="ascii").split()]
        except OSError as problem:
            if problem.errno not in (errno.ENOENT, errno.ENODEV):  # it was removed at this very moment
                raise
    return found


def _remove(folder: Path, until: float) -> None:
    """A group stays busy for a moment after its last process has gone."""
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(AGAIN_S)
