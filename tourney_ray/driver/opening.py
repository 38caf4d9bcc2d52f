"""Opening the journal where it may be held or its disk be away, for the first time and once more."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from tourney_ray.core.chain import Entry
from tourney_ray.errors import InUse, PlatformFault, StorageUnavailable
from tourney_ray.store.journal import Journal

log = logging.getLogger(__name__)

STORAGE_PAUSE_S = 5.0
"""Between a failure to record and the next try."""

LOCK_PATIENCE_S = 20.0
"""How long the journal's lock may outlive the driver before this one."""


def open_patiently(path: Path) -> Journal:
    """The journal, waiting a little for the lock of a driver that has just died, and as long as it takes for a disk."""
    until = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return Journal.open(path)
        except InUse:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        except PlatformFault as fault:
            log.error("%s %s; tried again in %g s", fault.message, fault.hint, STORAGE_PAUSE_S)
            time.sleep(STORAGE_PAUSE_S)


def open_again(path: Path, known: Entry | None) -> Journal:
    """The journal after a failure, with all that it said up to `known`.

    Raises what `Journal.open` raises, and `StorageUnavailable` where another one lies there, or none: a folder whose
    disk is away looks empty.
    """
    if known and not (path.exists() or path.with_suffix(".jsonl").exists()):
        raise StorageUnavailable(f"{path} is not there any more")
    journal = Journal.open(path)
    if known and next(journal.entries(after=known.seq - 1), None) != known:
        journal.close()
        raise StorageUnavailable(f"{path} does not say any more what was recorded as fact {known.seq}")
    return journal
