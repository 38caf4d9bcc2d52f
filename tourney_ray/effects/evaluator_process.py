"""One long-lived child process that answers every line with one line. What it says is a stranger's word.

Guarantee: an answer is one line, no longer than its cap, said after its question and in time; whatever else the child
does, it is ended, and nothing of it runs any more when `EvaluatorDied` is raised. Waiting does not poll.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from tourney_ray.core.quoting import shown
from tourney_ray.effects.process import READ_BYTES, TAIL_BYTES, printable
from tourney_ray.effects.processes import PATIENCE_S, end, mark_of
from tourney_ray.effects.staging import LAUNCHER
from tourney_ray.errors import EngineDown, EvaluatorDied

MOST_ANSWER_BYTES = 16 * 2**20
"""Of one answer: room for some 700,000 numbers."""

SIGNALLED = 128
"""Exit codes above this, of bubblewrap as of a shell, tell of the signal that ended the program."""


def launched(words: Sequence[str], entrances: Sequence[Path] = ()) -> list[str]:
    """The words that start a program which ends with this thread, in the control groups of those entrances."""
    joins = [word for entrance in entrances for word in ("--join", str(entrance))]
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *joins, *words]


class EvaluatorProcess:
    """A child that runs `words`; to be closed by whoever made it. Raises `EngineDown` when it cannot be started."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        try:
            self._popen = subprocess.Popen(
                words, bufsize=0, env=dict(env), cwd="/", stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except OSError as problem:
            raise EngineDown(f"{words[0]} cannot be started: {problem.strerror}") from problem
        self._mark = mark_of(self._popen.pid)
        self._streams = [stream for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr) if stream]
        self._stdin, self._stdout, self._stderr = (stream.fileno() for stream in self._streams)
        self._said, self._tail = bytearray(), b""
        self._selector = selectors.DefaultSelector()
        for descriptor in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
        for descriptor in (self._stdout, self._stderr):
            self._selector.register(descriptor, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        """Of the process that was started, from which all others of it descend."""
        return self._popen.pid

    def ask(self, question: bytes, within_s: float) -> bytes:
        """The child's answer to a line, without its end; raises `EvaluatorDied` when there is none that may be one."""
        self._take(time.monotonic())
        if self._said:
            self._give_up("it spoke before it was asked")
        until = time.monotonic() + within_s
        self._write(question + b"\n", until, within_s)
        return self._answer(until, within_s)

    def hear(self, within_s: float) -> bytes:
        """The line that it says unasked, when it has started; raises like `ask`."""
        return self._answer(time.monotonic() + within_s, within_s)

    def close(self) -> None:
        """End the child, whatever it does; return when nothing of it runs. Raises `EngineDown` when that fails."""
        if self._popen.returncode is None and self._mark:
            end([self._mark])
        self._popen.wait()
        self._drain()
        self._selector.close()
        for stream in self._streams:
            stream.close()

    def last_words(self) -> str:
        """The last line that it wrote to its standard error, printable."""
        lines = printable(self._tail.decode("utf-8", "replace")).strip().splitlines()
        return shown(lines[-1], 300) if lines else "none"

    def _answer(self, until: float, within_s: float) -> bytes:
        while b"\n" not in self._said:
            if len(self._said) > MOST_ANSWER_BYTES:
                self._give_up(f"it said more than {MOST_ANSWER_BYTES} bytes")
            if self._stdout not in self._selector.get_map():
                self._give_up()
            if not self._take(until):
                self._give_up(f"it did not answer within {within_s:g} s")
        line, _, rest = bytes(self._said).partition(b"\n")
        self._said.clear()
        if rest:
            self._give_up("it said more than one line")
        return line

    def _write(self, line: bytes, until: float, within_s: float) -> None:
        with selectors.DefaultSelector() as writable:
            writable.register(self._stdin, selectors.EVENT_WRITE)
            while line:
                if not writable.select(max(0.0, until - time.monotonic())):
                    self._give_up(f"it did not listen within {within_s:g} s")
                try:
                    line = line[os.write(self._stdin, line) :]
                except BrokenPipeError:
                    self._give_up()

    def _take(self, until: float) -> bool:
        """Read what is there, waiting for it up to that moment; whether there was anything, an end included."""
        ready = [key.fd for key, _ in self._selector.select(max(0.0, until - time.monotonic()))]
        for descriptor in ready:
            chunk = os.read(descriptor, READ_BYTES)
            if not chunk:
                self._selector.unregister(descriptor)
            elif descriptor == self._stdout:
                self._said += chunk
            else:
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]
        return bool(ready)

    def _drain(self) -> None:
        """Read to the ends of both streams: they come when the last process that holds them is gone."""
        until = time.monotonic() + PATIENCE_S
        while self._selector.get_map():
            if not self._take(until):
                raise EngineDown("something of an evaluator cannot be ended", "look at that machine")
            self._said.clear()

    def _give_up(self, why: str = "") -> NoReturn:
        """End the child and raise; without a reason of ours, with that of its end."""
        if not why:
            why = f"its process {self._own_end()}"
        self.close()
        raise EvaluatorDied(f"{why}; its last words: {self.last_words()}")

    def _own_end(self) -> str:
        """How the child ended, whose streams are closed already."""
        try:
            code = self._popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "closed its output"
        number = -code if code < 0 else code - SIGNALLED
        if number == 9:  # noqa: PLR2004 - SIGKILL
            return "was killed by signal 9, not by us, most likely for want of memory"
        return f"was ended by signal {number}" if number > 0 else f"exited with {code}"
