"""Where an evaluator's process runs: in bubblewrap, with bounds that it cannot lift, or as a plain process with these.

Guarantee: isolated, it has no network, sees of this machine the system's and Python's own files and what it is to
read, all read-only, and nobody's processes. Memory, processes and CPUs are bounded by a control group where this user
may make one; else, and besides, every process by limits of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tourney_ray
from tourney_ray.effects import bubblewrap, control_groups, limits
from tourney_ray.effects.evaluator_process import launched
from tourney_ray.errors import EngineDown

PARENT = "tourney-evaluator"
PACKAGE = Path(tourney_ray.__file__).parent
TMP_BYTES = 256 * 2**20
"""Of its `/tmp`, and of one file there; the evaluator writes none."""

PROCESSES = 512
"""Processes and threads; torch starts a few dozen threads."""

OPEN_FILES = 4096
HINT = "install it, for example: apt-get install bubblewrap"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the process may read, at the same paths as outside, and how much memory it may take."""

    readable: tuple[Path, ...]
    covered: tuple[Path, ...]
    """Folders inside of `readable` that look empty."""
    mem_bytes: int


class EvaluatorSandbox:
    """Bounds for one evaluator's process after the other; `close` gives them back when none runs any more."""

    def __init__(self, reading: Reading, isolated: bool) -> None:
        self._reading = reading
        self.isolated = isolated
        self._group = _make_group(reading.mem_bytes)

    def words(self, program: Sequence[str]) -> list[str]:
        """The words that start `program` within; raises `EngineDown` where it has to be isolated and cannot be."""
        reading = self._reading
        bounds = {"DATA": reading.mem_bytes, "NOFILE": OPEN_FILES, "FSIZE": TMP_BYTES, "CORE": 0}
        if self.isolated:
            need_isolation()
            bounds["NPROC"] = PROCESSES  # outside, it would count all that this user runs
        limited = [sys.executable, "-I", "-S", limits.__file__, *(f"{k}={v}" for k, v in bounds.items()), "--"]
        words = [*limited, *program]
        if self.isolated:
            seen = [PACKAGE, *reading.readable]
            words = bubblewrap.reading_command(words, environment(), seen, reading.covered, TMP_BYTES)
        return launched(words, control_groups.entrances(self._group) if self._group else ())

    @property
    def env(self) -> dict[str, str]:
        """The environment for starting it: bubblewrap gives its own to the program."""
        return bubblewrap.HOST_PATH if self.isolated else environment()

    def close(self) -> None:
        """End whatever is left in the bounds; raises `EngineDown` when something cannot be ended."""
        if self._group:
            control_groups.end(self._group)
            self._group = ""


def need_isolation() -> None:
    """Raise `EngineDown` with what to do, unless bubblewrap works here; asked anew as long as it does not."""
    if why := bubblewrap.why_not():
        bubblewrap.why_not.cache_clear()
        raise EngineDown(f"no stranger's checkpoint is evaluated without a sandbox: {why}", HINT)


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def environment() -> dict[str, str]:
    """All that the process finds in its environment: one thread, no network, and nothing of ours."""
    chosen = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    return {
        "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(PACKAGE.parent),
        **chosen,
    }


def _make_group(mem_bytes: int) -> str:
    """The name of a control group; empty where this user may not make one."""
    version, name = control_groups.version_here(), control_groups.new_name(PARENT)
    bounds = control_groups.Bounds(mem_bytes, PROCESSES, float(os.cpu_count() or 1))
    if not version:
        return ""
    try:
        control_groups.end_orphans(PARENT)
        control_groups.make(version, name, bounds)
    except (OSError, EngineDown):
        control_groups.end(name)
        return ""
    return name
