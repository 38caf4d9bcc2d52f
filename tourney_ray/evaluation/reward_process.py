"""Runs a task's reward function on completions: in a process of its own, under a clock and a memory limit.

The function is the operator's, so whatever goes wrong in it is `EvaluatorCrashed`, with its name and what it did: no
entrant's fault. That it has no network is up to the launcher. Nothing of the process is left behind.
"""

from __future__ import annotations

import ast
import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from tourney_ray.errors import ConfigError, EvaluatorCrashed
from tourney_ray.evaluation import reward_child
from tourney_ray.evaluation.kinds import Launcher

CHILD = Path(reward_child.__file__).read_text(encoding="utf-8")
TOLD_BYTES = 2_000
"""Of the end of what the process said."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one reward function may use for all completions of one checkpoint."""

    clock_s: float = 60.0
    memory_bytes: int = 2 * 2**30


@dataclass(frozen=True, slots=True)
class NamedReward:
    """A reward function: its number in the task, counted from 1, its name and its source."""

    number: int
    name: str
    source: str


def read_function(number: int, source: str) -> NamedReward:
    """The one function that `source` defines at its top level; raises `ConfigError` for none, several or no Python."""
    try:
        names = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"reward function {number} is not Python: {error}", "correct its source") from error
    if len(names) != 1:
        raise ConfigError(
            f"reward function {number} defines {len(names)} functions at its top level", "define exactly one there"
        )
    return NamedReward(number, names[0], source)


def run_function(
    function: NamedReward,
    completions: Sequence[str],
    extra_data: Sequence[Any] | None,
    launch: Launcher,
    limits: Limits,
) -> list[float]:
    """Shape (completions,): finite raw rewards; raises `EvaluatorCrashed`. `extra_data` has the completions' shape."""
    question = {
        "source": function.source,
        "name": function.name,
        "completions": list(completions),
        "extra_data": None if extra_data is None else list(extra_data),
        "memory_bytes": limits.memory_bytes,
        "cpu_s": math.ceil(limits.clock_s) + 1,
    }
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        asked.write(json.dumps(question).encode())
        asked.seek(0)
        code = _run(launch(_words()), (asked, answer, said), limits.clock_s)
        if code is None:
            _blame(function, f"did not end within {limits.clock_s:g} s")
        if code != 0:
            _blame(function, f"failed with exit code {code}: {_last_line(said)}")
        answer.seek(0)
        return _checked(function, answer.read(), len(completions))


def _words() -> list[str]:
    """A bare Python whose hashes are the same every time, in an environment of nothing else."""
    env = {"PATH": os.defpath, "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    settings = [f"{name}={value}" for name, value in env.items()]
    return ["/usr/bin/env", "-i", *settings, sys.executable, "-s", "-P", "-c", CHILD]


def _run(words: Sequence[str], streams: tuple[IO[bytes], IO[bytes], IO[bytes]], clock_s: float) -> int | None:
    """Exit code (negative: the signal that ended it), or None when its time was over; nothing of its group is left."""
    asked, answer, said = streams
    try:
        process = subprocess.Popen(
            words, stdin=asked, stdout=answer, stderr=said, cwd="/", start_new_session=True,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )  # fmt: skip
    except OSError as error:
        raise EvaluatorCrashed(f"reward functions cannot be started: {words[0]}: {error.strerror}") from error
    with _watched(process) as descriptor:
        ended, _, _ = select.select([descriptor], [], [], clock_s)
    return process.returncode if ended else None


@contextmanager
def _watched(process: subprocess.Popen[bytes]) -> Generator[int]:
    """A descriptor that is ready once the process has ended; afterwards its whole group is gone."""
    descriptor = os.pidfd_open(process.pid)
    try:
        yield descriptor
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # not waited for yet, so the number is still its own
        process.wait()
        os.close(descriptor)


def _last_line(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - TOLD_BYTES))
    lines = said.read().decode("utf-8", errors="replace").strip().splitlines()
    return "".join(letter if letter.isprintable() else "?" for letter in lines[-1]) if lines else "it said nothing"


def _checked(function: NamedReward, answer: bytes, count: int) -> list[float]:
    try:
        rewards: Any = json.loads(answer)
    except ValueError:
        _blame(function, "ended without an answer")
    if not isinstance(rewards, list) or len(rewards) != count:
        _blame(function, f"gave {len(rewards)} rewards for {count} completions")
    if strange := [reward for reward in rewards if not isinstance(reward, float) or not math.isfinite(reward)]:
        _blame(function, f"gave {strange[0]!r}, which is not a finite number")
    return rewards


def _blame(function: NamedReward, why: str) -> NoReturn:
    raise EvaluatorCrashed(
        f"reward function {function.number} of the task ({function.name}) {why}",
        "correct the function in the task's dataset type; no entrant is charged for it",
    )
