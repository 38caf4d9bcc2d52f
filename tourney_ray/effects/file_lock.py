"""Being the only one on this machine that does something: a lock that is a file.

Guarantee: a process that dies lets go, and so does one that forked while it held the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Generator
from pathlib import Path


@contextlib.contextmanager
def alone(path: Path) -> Generator[None]:
    """Wait until nobody else holds the file `path`, then hold it; it is made where it is missing and stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing alone leaves it to whatever was forked meanwhile
