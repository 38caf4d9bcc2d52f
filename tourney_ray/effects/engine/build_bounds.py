"""What bounds the steps of an image's build: a control group of its own for every build, with all of its processes.

Guarantee: when the context is left, nothing of the build runs any more and its group is gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import signal
import time
from collections.abc import Generator
from pathlib import Path

from tourney_ray.effects.engine.connection import EngineFacts
from tourney_ray.errors import EngineDown

GROUPS = Path("/sys/fs/cgroup")
PARENT = "tourney-build"
PERIOD_US = 100_000
LEAST_US = 1000
"""The kernel takes no smaller share of a period."""

GONE_S = 10.0
AGAIN_S = 0.01


@contextlib.contextmanager
def bounded(facts: EngineFacts, mem_bytes: int, pids: int, cpus: float) -> Generator[str]:
    """A context: the engine's `--cgroup-parent` for one build; raises `EngineDown` where a bound cannot be set."""
    if facts.cgroup_driver == "systemd":
        raise EngineDown(
            "builds cannot be bounded: this engine leaves control groups to systemd",
            'put {"exec-opts": ["native.cgroupdriver=cgroupfs"]} into the engine\'s daemon.json',
        )
    _end_orphans()
    name = f"{PARENT}/{os.getpid()}-{secrets.token_hex(6)}"
    try:
        _make(facts.cgroup_version, name, mem_bytes, pids, min(cpus, facts.cpus))
    except OSError as problem:
        _end(_folders(name))
        raise EngineDown(
            f"builds cannot be bounded: {problem}", "run Ray as root on this node, with control groups mounted"
        ) from problem
    try:
        yield f"/{name}"
    finally:
        _end(_folders(name))


def _end_orphans() -> None:
    """End the builds whose watcher has died: their groups bear its process id."""
    for name in {folder.name for folder in GROUPS.glob(f"*/{PARENT}/*-*")}:
        owner = name.partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            _end(_folders(f"{PARENT}/{name}"))


def is_bounded(group: str) -> bool:
    """Whether there is a control group of that name, that is whether its build goes on."""
    return bool(_folders(group.strip("/")))


def _make(version: str, name: str, mem_bytes: int, pids: int, cpus: float) -> None:
    """Make the group and write its bounds."""
    quota_us = max(int(cpus * PERIOD_US), LEAST_US)
    if version == "1":
        memory, processes, time_share = (GROUPS / kind / name for kind in ("memory", "pids", "cpu"))
        for folder in (memory, processes, time_share):
            folder.mkdir(parents=True)
        _write(memory / "memory.limit_in_bytes", mem_bytes)
        swap = memory / "memory.memsw.limit_in_bytes"
        if swap.exists():
            _write(swap, mem_bytes)
        _write(processes / "pids.max", pids)
        _write(time_share / "cpu.cfs_period_us", PERIOD_US)
        _write(time_share / "cpu.cfs_quota_us", quota_us)
        return
    (GROUPS / PARENT).mkdir(exist_ok=True)
    for above in (GROUPS, GROUPS / PARENT):
        (above / "cgroup.subtree_control").write_text("+memory +pids +cpu", encoding="ascii")
    folder = GROUPS / name
    folder.mkdir()
    bounds = {"memory.max": mem_bytes, "memory.swap.max": 0, "pids.max": pids, "cpu.max": f"{quota_us} {PERIOD_US}"}
    for file, words in bounds.items():
        _write(folder / file, words)


def _folders(name: str) -> list[Path]:
    """The group in every hierarchy: the engine makes it in those that bound nothing, too."""
    return [folder for folder in (GROUPS / name, *GROUPS.glob(f"*/{name}")) if folder.is_dir()]


def _write(path: Path, words: int | str) -> None:
    path.write_text(str(words), encoding="ascii")


def end_processes(group: str) -> None:
    """Kill what runs in the group, where nothing starts any more; raises `EngineDown` when something does not end."""
    folders = _folders(group.strip("/"))
    for bound in (folder / "pids.max" for folder in folders):
        if bound.exists():
            _write(bound, 0)
    _kill(folders, time.monotonic() + GONE_S)


def _end(folders: list[Path]) -> None:
    """Kill what is left in the group, then remove it; raises `EngineDown` when something cannot be ended."""
    until = time.monotonic() + GONE_S
    _kill(folders, until)
    for folder in folders:
        for below, _, _ in os.walk(folder, topdown=False):
            _remove(Path(below), until)


def _kill(folders: list[Path], until: float) -> None:
    while left := {pid for folder in folders for pid in _processes(folder)}:
        if time.monotonic() > until:
            raise EngineDown(f"process {min(left)} of a build cannot be ended", "look at that node")
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
