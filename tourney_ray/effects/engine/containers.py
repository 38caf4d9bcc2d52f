"""Containers of an engine: found by their labels, made, started, looked at, stopped for certain, removed for certain.

Guarantee: a container that was `remove`d is not there any more, and nothing of it runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from docker.errors import APIError, NotFound

from tourney_ray.core.quoting import shown
from tourney_ray.effects.engine.connection import Engine, translated
from tourney_ray.effects.engine.events import Feed
from tourney_ray.effects.engine.labels import NAME_PREFIX, OurLabels, parse_labels
from tourney_ray.effects.process import TAIL_BYTES, printable
from tourney_ray.errors import EngineDown

KILL_S = 30.0
"""How long a killed container may take to be gone before its GPUs count as lost."""

TAIL_LINES = 40
CONFLICT = 409
ENDED = ("exited", "dead")
"""The engine's words for a container of which nothing runs any more."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container of ours, as the engine last described it."""

    container_id: str
    name: str
    labels: OurLabels
    image_id: str
    status: str
    """The engine's word: `created`, `running`, `exited`, `dead`, …"""
    exit_code: int
    oom_killed: bool
    error: str
    """Why the engine could not start it."""
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def runs(self) -> bool:
        """Whether something of it may run."""
        return self.status in ("running", "paused", "restarting", "removing")


class Containers:
    """The containers of one engine that bear our labels; all others are nobody's business."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._api = engine.client.api

    def ours(self, **labels: str) -> list[Container]:
        """All containers of ours whose labels have these values, such as `attempt="…"`; oldest first."""
        found = sorted(self._listed(**labels), key=lambda one: one["Created"])
        inspected = (self.inspect(str(one["Id"])) for one in found)
        return [container for container in inspected if container is not None]

    def holding(self, **labels: str) -> list[OurLabels]:
        """The labels of those of them that hold their GPUs: all but the ones that have ended."""
        listed = [parse_labels(one["Labels"]) for one in self._listed(**labels) if one["State"] not in ENDED]
        return [labels for labels in listed if labels is not None]

    def inspect(self, container_id: str) -> Container | None:
        """What the engine says of it now; None when it is not there, or not ours."""
        with translated(f"looking at container {container_id[:12]}"):
            try:
                facts: Mapping[str, Any] = self._api.inspect_container(container_id)
            except NotFound:
                return None
        return _container(facts)

    def create(self, options: dict[str, Any]) -> str:
        """The id of a container made from the keyword arguments of the client's `create`; raises `EngineDown`.

        One of that name that is there already is removed first: who creates has made sure that it is nobody's.
        """
        doing = f"making container {options['name']}"
        with translated(doing):
            try:
                return str(self._engine.client.containers.create(**options).id)
            except APIError as error:
                if error.status_code != CONFLICT:
                    raise
        self.remove(str(options["name"]))
        with translated(doing):
            return str(self._engine.client.containers.create(**options).id)

    def start(self, container_id: str) -> None:
        """Start it; raises `APIError` with the engine's own words, for `ending` to tell whose fault it is."""
        self._api.start(container_id)

    def stop(self, container_id: str, grace_s: float) -> None:
        """Ask it to end, wait for the grace, kill it; returns once it has ended.

        Raises `EngineDown` when it outlives a kill: what it holds must not be given away.
        """
        with Feed(self._engine, container_id) as feed:
            if self._signal(container_id, "SIGTERM") and not self._ends(feed, container_id, grace_s):
                self._signal(container_id, "SIGKILL")
                if not self._ends(feed, container_id, KILL_S):
                    raise EngineDown(
                        f"container {container_id[:12]} cannot be killed, so its GPUs stay quarantined",
                        "look at that node: a process in state D waits for a device or a disk; a reboot ends it",
                    )

    def remove(self, container_id: str) -> None:
        """Remove it with all that it wrote, running or not; returns once it is not there any more."""
        with translated(f"removing container {container_id[:12]}"):
            try:
                self._api.remove_container(container_id, force=True, v=True)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != CONFLICT:  # somebody else removes it already
                    raise
        self._confirm_gone(container_id)

    def log_tail(self, container_id: str) -> str:
        """The end of what it said, at most 2 kB, printable; empty when it is not there."""
        with translated(f"reading the log of container {container_id[:12]}"):
            try:
                said: bytes = self._api.logs(container_id, stdout=True, stderr=True, tail=TAIL_LINES)
            except NotFound:
                return ""
        return printable(said[-TAIL_BYTES:].decode("utf-8", errors="replace"))

    def layer_bytes(self, container_id: str) -> int:
        """What it has written to its own layer, bytes: everything outside of its mounts."""
        with translated(f"measuring container {container_id[:12]}"):
            found: list[Any] = self._api.containers(all=True, size=True, filters={"id": container_id})
        return max((int(one.get("SizeRw") or 0) for one in found), default=0)

    def _listed(self, **labels: str) -> list[dict[str, Any]]:
        wanted = ["tourney.attempt", *(f"tourney.{name}={value}" for name, value in labels.items())]
        with translated("listing the containers of this node"):
            found: list[dict[str, Any]] = self._api.containers(all=True, filters={"label": wanted})
        return [one for one in found if any(_is_ours(str(name)) for name in one.get("Names") or ())]

    def _signal(self, container_id: str, signal: str) -> bool:
        """Send a signal; False when it does not run any more."""
        with translated(f"stopping container {container_id[:12]}"):
            try:
                self._api.kill(container_id, signal)
            except NotFound:
                return False
            except APIError as error:
                if error.status_code != CONFLICT:
                    raise
                return False  # it is not running
        return True

    def _ends(self, feed: Feed, container_id: str, patience_s: float) -> bool:
        """Whether it has ended, waiting for that if need be."""
        until = time.monotonic() + patience_s
        while True:
            container = self.inspect(container_id)
            if container is None or not container.runs:
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            feed.next(left)

    def _confirm_gone(self, container_id: str) -> None:
        """Raise `EngineDown` unless it is gone, waiting a while where somebody else is removing it."""
        if self.inspect(container_id) is None:
            return
        with Feed(self._engine, container_id) as feed:
            until = time.monotonic() + KILL_S
            while self.inspect(container_id) is not None:
                left = until - time.monotonic()
                if left <= 0:
                    raise EngineDown(
                        f"container {container_id[:12]} cannot be removed", "see the engine's log on this node"
                    )
                feed.next(left)


def _container(facts: Mapping[str, Any]) -> Container | None:
    labels = parse_labels(facts["Config"].get("Labels") or {})
    if labels is None or not _is_ours(str(facts["Name"])):
        return None
    state: Mapping[str, Any] = facts["State"]
    return Container(
        container_id=str(facts["Id"]),
        name=str(facts["Name"]).removeprefix("/"),
        labels=labels,
        image_id=str(facts["Image"]),
        status=str(state["Status"]),
        exit_code=int(state["ExitCode"]),
        oom_killed=bool(state["OOMKilled"]),
        error=shown(str(state.get("Error") or "")),
        started_at=_moment(str(state["StartedAt"])),
        finished_at=_moment(str(state["FinishedAt"])),
    )


def _is_ours(name: str) -> bool:
    """Whether we named it: the steps of a build bear the labels of their dockerfile, and names of the engine's."""
    return name.removeprefix("/").startswith(NAME_PREFIX)


def _moment(text: str) -> datetime | None:
    """The engine's time, with its nanoseconds cut to microseconds; None for the year 1, its word for never."""
    if text.startswith("0001-"):
        return None
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")
