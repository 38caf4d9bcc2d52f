"""Watches one running container to its end: by the engine's events, with its deadline on the monotonic clock.

Guarantee: returns once the container has ended, whoever ended it, and whether or not the engine was away meanwhile.
Between events it looks at what no event tells: the size of what the container writes, and its last words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from tourney_ray.effects.engine.containers import Container, Containers
from tourney_ray.effects.engine.ending import Stopped
from tourney_ray.effects.engine.events import Feed
from tourney_ray.effects.engine.options import Limits
from tourney_ray.errors import EngineDown

ENGINE_PATIENCE_S = 300.0
"""How long past a deadline an engine may be away before the watch gives up on it."""

AWAY_S = 5.0
"""How long to wait for a word of an engine that is away; it is tried more often than that."""

WORDS_S = 2.0
"""How long to wait for what was said of a container's end, where that is seen first."""

OVERRUN_S = 60.0
"""How late a container may be found past its deadline; later, its training was unfair to the others."""


class Look(Protocol):
    """What is looked at between events."""

    def __call__(self) -> Stopped | None:
        """A reason to stop the container; None to go on."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """How the watch ended."""

    container: Container | None
    """As it ended; None when somebody else removed it."""
    stopped: Stopped | None
    outsider: bool
    outage: bool
    late_s: float


class Watch:
    """One watch over one container."""

    def __init__(self, containers: Containers, container_id: str, deadline: float, look: Look, limits: Limits) -> None:
        """`deadline` is on the monotonic clock; `look` is called every `limits.look_s` seconds."""
        self._containers = containers
        self._id = container_id
        self._deadline = deadline
        self._limits = limits
        self._look = look
        self._late_s = time.monotonic() - deadline
        self._next_look = time.monotonic() + limits.look_s
        self._outsider = self._away = self._was_away = self._heard_its_end = False

    def to_the_end(self, feed: Feed) -> Watched:
        """Watch until the container has ended. Raises `EngineDown` when it can be neither seen nor stopped."""
        while True:
            self._wait_for_news(feed)
            try:
                container = self._containers.inspect(self._id)
                reason = self._reason() if container and container.runs else None
            except EngineDown:  # it went away at this very moment; the feed tells when it is back
                self._away = self._was_away = True
                self._need_patience()
                continue
            if container is None or not container.runs:
                if container and container.exit_code:
                    self._hear_out(feed)
                return Watched(container, self._stopped_by_another(), self._outsider, self._was_away, 0.0)
            self._was_away = False
            if reason:
                self._containers.stop(self._id, self._limits.grace_s)
                return Watched(self._containers.inspect(self._id), reason, False, False, max(0.0, self._late_s))

    def _stopped_by_another(self) -> Stopped | None:
        """Why another watcher of the same attempt, which has the same deadline, has stopped it; None if none has."""
        return Stopped.DEADLINE if self._outsider and time.monotonic() >= self._deadline else None

    def _wait_for_news(self, feed: Feed) -> None:
        """Return when the container has to be looked at: after an event that matters, or when it is time anyway."""
        while True:
            due_s = min(self._deadline, self._next_look) - time.monotonic()
            event = feed.next(AWAY_S if self._away else due_s)
            if event is not None:
                self._note(event)
            elif self._away:  # a feed that hears nothing says so more often: the engine is there
                self._away = False
            if self._away:
                self._need_patience()
            elif event is None or event in ("listening", "die", "destroy"):
                return

    def _hear_out(self, feed: Feed) -> None:
        """Take in what happened before its end: who was killed by hand must not count as having failed by itself."""
        until = time.monotonic() + WORDS_S
        while not (self._heard_its_end or self._was_away or self._outsider):
            event = feed.next(until - time.monotonic())
            if event is None:
                return
            self._note(event)

    def _note(self, event: str) -> None:
        if event == "lost":
            self._away = self._was_away = True
        elif event == "listening":
            self._away = False
        elif event == "kill":
            self._outsider = True
        elif event == "die":
            self._heard_its_end = True

    def _need_patience(self) -> None:
        """Nothing can be stopped without an engine; raise `EngineDown` once that has lasted for too long."""
        if time.monotonic() > self._deadline + ENGINE_PATIENCE_S:
            raise EngineDown(
                f"the container engine is away, and container {self._id[:12]} is past its deadline",
                "start the engine on that node: what runs is then stopped",
            )

    def _reason(self) -> Stopped | None:
        """Why the container has to be stopped now."""
        now = time.monotonic()
        if now >= self._deadline:
            return Stopped.OVERRUN if self._late_s > OVERRUN_S else Stopped.DEADLINE
        if now < self._next_look:
            return None
        self._next_look = now + self._limits.look_s
        return self._look()
