"""What the engine says of one container, as it happens, for as long as somebody listens.

Guarantee: nothing is missed between two looks. The feed listens before it reports that it does, and when the engine
comes back after a restart it says so, so that the listener can look at the container itself.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from datetime import datetime
from types import TracebackType
from typing import Any

from docker.errors import DockerException
from requests import RequestException

from tourney_ray.effects.engine.connection import Engine
from tourney_ray.errors import EngineDown

FIRST_ANSWER_S = 60.0
"""How long the engine may take to let somebody listen."""

AGAIN_S = 0.5
"""Between two tries to reach an engine that has gone away."""


class Feed:
    """A context: the events of one container, in order, each as the engine's word for it: `start`, `kill`, `die`, ….

    Those `since` a moment come as well, as far as the engine remembers: it keeps a few hundred. `listening` and `lost`
    are its own words: whether it hears anything.
    """

    def __init__(self, engine: Engine, container_id: str, since: datetime | None = None) -> None:
        self._engine = engine
        self._since = since
        self._container_id = container_id
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._listen, name=f"events of {container_id[:12]}", daemon=True)

    def __enter__(self) -> Feed:
        """The feed, listening; raises `EngineDown` when the engine does not let it."""
        self._thread.start()
        first = self.next(FIRST_ANSWER_S)
        if first != "listening":
            self.__exit__(None, None, None)
            raise EngineDown("the container engine tells nothing of its events", "see the engine's log on this node")
        self._events.put(first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._closed.set()
        with self._lock:
            _close(self._stream)
        self._thread.join()

    def next(self, timeout_s: float) -> str | None:
        """The next event, None when nothing happened for so long."""
        try:
            return self._events.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None

    def _listen(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(DockerException, RequestException, OSError):
                self._hear()
            self._events.put("lost")
            self._closed.wait(AGAIN_S)

    def _hear(self) -> None:
        """Pass on what one connection says until it breaks or is closed."""
        with contextlib.closing(self._engine.stream_client()) as client:
            wanted = {"type": "container", "container": self._container_id}
            since = int(self._since.timestamp()) if self._since else None
            stream: Any = client.api.events(since=since, filters=wanted, decode=True)
            with self._lock:
                self._stream = stream
                if self._closed.is_set():
                    _close(stream)
                    return
            self._events.put("listening")
            for said in stream:
                self._events.put(str(said.get("Action", "")))
            with self._lock:
                _close(stream)
                self._stream = None


def _close(stream: Any) -> None:
    if stream is not None:
        with contextlib.suppress(OSError, AttributeError):
            stream.close()
