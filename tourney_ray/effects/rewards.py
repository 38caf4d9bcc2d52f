"""How a task's reward functions are started: without network, other processes, or files that are not Python's own.

The functions are the operator's, what they read is a stranger's. Memory and time are bounded by whoever starts them.
"""

from __future__ import annotations

from collections.abc import Sequence

from tourney_ray.effects.bubblewrap import ISOLATION, LOADER, SYSTEM, python_folders, why_not
from tourney_ray.errors import EngineDown

ROOM_BYTES = 64 * 2**20
"""Of /tmp inside, which is in memory."""


def without_network(program: Sequence[str]) -> list[str]:
    """The words that run `program` shut in by bubblewrap; raises `EngineDown` on a machine where that cannot be."""
    if why := why_not():
        raise EngineDown(f"reward functions cannot be shut in: {why}", "apt-get install bubblewrap")
    words = ["bwrap", *ISOLATION, "--proc", "/proc", "--dev", "/dev", "--size", str(ROOM_BYTES), "--tmpfs", "/tmp"]
    for path in (*SYSTEM, *LOADER):
        words += ["--ro-bind-try", path, path]
    for folder in python_folders():
        words += ["--ro-bind", str(folder), str(folder)]
    return [*words, "--remount-ro", "/", "--chdir", "/tmp", "--", *program]
