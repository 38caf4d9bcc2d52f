"""GPUs of a node that no container holds, but a process of ours: an evaluator. A locked file says so.

Guarantee: a claim ends with the process that made it, however that ends.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Literal

EVALUATOR = "an evaluator"
"""Who holds what is claimed."""

_held: list[IO[str]] = []
"""The locked files of this process, which stay open as long as it lives."""


class GpuClaims:
    """Of one type of GPUs of a node; to be asked and made under the node's lock. `work` is the node's folder."""

    def __init__(self, work: Path, node: str, gpu_type: str, devices: Literal["nvidia", "none"]) -> None:
        self._folder = work / "gpus" / (f"{node}.{gpu_type}" if devices == "none" else devices)

    def holders(self) -> dict[int, str]:
        """Who holds them, by index."""
        files = sorted(self._folder.glob("*.lock"))
        return {int(file.name.removesuffix(".lock")): EVALUATOR for file in files if _is_locked(file)}

    def claim(self, index: int) -> None:
        """Hold that one until this process ends; raises `OSError` when another does."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = (self._folder / f"{index}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        _held.append(file)


def _is_locked(path: Path) -> bool:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
        return False
