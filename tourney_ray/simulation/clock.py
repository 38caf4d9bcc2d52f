"""Virtual time: what is to happen, in the order of its moment. Hours pass in no time, and nothing ever sleeps."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count


class VirtualClock:
    """Events by their moment, seconds since the start; those of one moment as they were asked for."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = count()
        self.seconds = 0.0
        """How much time has passed; never goes back."""
        self.skew_s = 0.0
        """By how much the driver's machine shows another time than the true one."""

    def shown(self) -> datetime:
        """What the driver's machine takes for the current moment, in UTC."""
        return self._start + timedelta(seconds=self.seconds + self.skew_s)

    def seconds_until(self, moment: datetime) -> float:
        """How long it takes until the driver's machine shows that moment, at least 0."""
        return max(0.0, (moment - self.shown()).total_seconds())

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Let `event` happen so much later."""
        heapq.heappush(self._heap, (self.seconds + seconds, next(self._count), event))

    def next(self) -> bool:
        """Let the next event happen; False when there is none."""
        if not self._heap:
            return False
        self.seconds, _, event = heapq.heappop(self._heap)
        event()
        return True
