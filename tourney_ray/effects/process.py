"""One child process in a session of its own: its log, its clock and its end.

Guarantee: leaving the `with` block of a `Job`, on whatever path, leaves no process of its session behind. Waiting does
not poll: it sleeps on the process and on its output.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tourney_ray.effects.processes import ProcessMark, end, mark_of, send
from tourney_ray.errors import EngineDown

LOG_CAP_BYTES = 1_000_000
"""The beginning of a log is kept on disk up to here; of the rest only the tail is kept."""

TAIL_BYTES = 2_000
READ_BYTES = 65_536
DRAIN_READS = 64
"""Reads of what is still in the pipe when the process is gone; a surviving writer must not hold us up."""


class CappedLog:
    """A log file of bounded size and, in memory, the last 2 kB of what was written."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._left = LOG_CAP_BYTES
        self._tail = b""

    def write(self, chunk: bytes) -> None:
        """Keep what fits of `chunk`, and the tail in any case."""
        self._file.write(chunk[: self._left])
        self._left = max(0, self._left - len(chunk))
        self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    def tail(self) -> str:
        """The end of the log as printable text."""
        return printable(self._tail.decode("utf-8", errors="replace"))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Job:
    """A running child process. Its standard output and error go to `log`; what it writes to `status` is kept apart.

    `status` is a pipe (read end, write end) whose write end the child inherits; the job closes both.
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: CappedLog, status: tuple[int, int]
    ) -> None:
        self.status = b""
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._status_end = status[0]
        try:
            self._popen = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(status[1],),
            )
        except OSError as problem:
            os.close(status[0])
            self._selector.close()
            raise EngineDown(f"{argv[0]} cannot be started: {problem.strerror}") from problem
        finally:
            os.close(status[1])
        self.started_at = time.monotonic()
        """Start of the process on the monotonic clock, seconds."""
        self._pidfd = os.pidfd_open(self._popen.pid)
        self.leaders: list[ProcessMark] = [self._own_mark()]
        """The leaders of all its sessions; the last is the one that hears a polite request to stop."""
        self._listen()

    def __enter__(self) -> Job:
        """The job itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End whatever is left and close everything."""
        try:
            end(self.leaders)
            self._popen.wait()
        finally:
            self._close()

    def wait(self, until: float) -> int | None:
        """The exit code (negative: the signal that ended it), or None when it still ran at `until` (monotonic)."""
        while (left := until - time.monotonic()) > 0:
            if self._serve(left):
                self._drain()
                return self._popen.wait()
        return None

    def wait_for_status(self, until: float) -> None:
        """Return once a whole line of status came, no more can come, or at `until`."""
        while b"\n" not in self.status and self._status_end in self._selector.get_map():
            left = until - time.monotonic()
            if left <= 0 or self._serve(left):
                return

    def stop(self, grace_s: float) -> None:
        """Ask its innermost session to end, wait for the grace, then kill and return once everything is gone."""
        send(self.leaders[-1:], signal.SIGTERM)
        self.wait(time.monotonic() + grace_s)
        end(self.leaders)
        self._popen.wait()
        self._drain()

    def log_tail(self) -> str:
        """The last 2 kB of what it said, printable."""
        return self._log.tail()

    def _own_mark(self) -> ProcessMark:
        mark = mark_of(self._popen.pid)
        if mark is None:
            raise EngineDown(f"process {self._popen.pid} vanished as it started", "is /proc mounted?")
        return mark

    def _listen(self) -> None:
        output = self._popen.stdout
        if output is None:
            raise EngineDown("the process has no output pipe")
        self._output = output.fileno()
        for descriptor in (self._output, self._status_end):
            os.set_blocking(descriptor, False)
        for descriptor in (self._output, self._status_end, self._pidfd):
            self._selector.register(descriptor, selectors.EVENT_READ)

    def _serve(self, timeout_s: float) -> bool:
        """Read what is there; whether the process is gone."""
        ready = [key.fd for key, _ in self._selector.select(timeout_s)]
        for descriptor in ready:
            if descriptor != self._pidfd:
                self._read(descriptor)
        return self._pidfd in ready

    def _read(self, descriptor: int) -> bool:
        """Read one chunk; whether there was any."""
        try:
            chunk = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._selector.unregister(descriptor)
        elif descriptor == self._output:
            self._log.write(chunk)
        else:
            self.status = (self.status + chunk)[:READ_BYTES]
        return bool(chunk)

    def _drain(self) -> None:
        for descriptor in (self._output, self._status_end):
            for _ in range(DRAIN_READS):
                if descriptor not in self._selector.get_map() or not self._read(descriptor):
                    break

    def _close(self) -> None:
        self._selector.close()
        os.close(self._pidfd)
        os.close(self._status_end)
        if self._popen.stdout:
            self._popen.stdout.close()
        self._log.close()


def printable(text: str) -> str:
    """`text` with everything but printable characters and line ends replaced by `?`."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text.replace("\r", "\n"))
