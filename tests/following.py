"""Waiting for what a program says in its log. A look every tenth of a second leaves the machine to the program."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

LOOK_S = 0.1


def until_said(log: Path, words: str, process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Return when the words are in the log; fails with the log when the process ends without them, or takes longer."""
    until_true(lambda: words in log.read_text(), log, process, patience_s)


def until_true(happened: Callable[[], bool], log: Path, process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Return when that is so; fails with the log when the process ends before, or takes longer."""
    until = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < until, log.read_text()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_S)
            assert happened(), log.read_text()
