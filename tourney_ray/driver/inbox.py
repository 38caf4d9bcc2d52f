"""What reaches the driver, as much at a time as is there: what is recorded together costs one write to the disk."""

from __future__ import annotations

import asyncio
import contextlib

from tourney_ray.core.events import AttemptRunning
from tourney_ray.driver.acts import Deed
from tourney_ray.driver.loop import Outcome

MOMENT_S = 0.02
"""How long word that an attempt's code runs may wait to be recorded together with something else."""

Letter = Outcome | Deed


class Inbox:
    """Outcomes of commands, and what people want done, in the order in which they came."""

    def __init__(self) -> None:
        self._queue = asyncio.Queue[Letter]()

    def put(self, letter: Letter) -> None:
        """Here it is; to be called on the event loop."""
        self._queue.put_nowait(letter)

    async def take(self, patience_s: float | None) -> list[Letter]:
        """All that has come, at least one; empty where nothing comes for so long. None: however long it takes.

        What nothing follows from waits a moment for what comes after it.
        """
        letters = list[Letter]()
        with contextlib.suppress(TimeoutError):  # no `wait_for`: in Python 3.11 it forgets to be cancelled
            async with asyncio.timeout(patience_s):
                letters.append(await self._queue.get())
        self._add_the_rest(letters)
        if letters and all(map(_can_wait, letters)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOMENT_S):
                    while all(map(_can_wait, letters)):
                        letters.append(await self._queue.get())
            self._add_the_rest(letters)
        return letters

    def _add_the_rest(self, letters: list[Letter]) -> None:
        while not self._queue.empty():
            letters.append(self._queue.get_nowait())


def _can_wait(letter: Letter) -> bool:
    """Whether nobody does anything because of it: an attempt's code has started."""
    return isinstance(letter, Outcome) and not letter.done and all(isinstance(f, AttemptRunning) for f in letter.facts)
