"""What runs in the process of a reward function: reads it and the completions, writes its rewards. Stands alone.

Its text is given to a Python of its own (`reward_process` does), so it imports nothing of this project. What goes wrong
in the function ends the process with a traceback; what it prints goes where errors go.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import random
import resource
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
MOST_WRITTEN_BYTES = 64 * 2**20
"""Of answers and of what the function prints, each."""


def main() -> None:
    """Answer the question on standard input with a JSON list of numbers on standard output."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    question: dict[str, Any] = json.load(sys.stdin)
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for limit, most in (
        (resource.RLIMIT_AS, question["memory_bytes"]),
        (resource.RLIMIT_CPU, question["cpu_s"]),
        (resource.RLIMIT_FSIZE, MOST_WRITTEN_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    random.seed(0)
    json.dump(rewards(question["source"], question["name"], question["completions"], question["extra_data"]), answer)
    answer.close()


def rewards(source: str, name: str, completions: list[str], extra_data: list[Any] | None) -> list[float]:
    """What the function `name` of `source` says of the completions; `extra_data` goes to functions that name it."""
    namespace: dict[str, Any] = {"__name__": "reward_function"}
    exec(compile(source, "<reward function>", "exec"), namespace)
    function = namespace[name]
    if extra_data is not None and "extra_data" in inspect.signature(function).parameters:
        return [float(reward) for reward in function(completions, extra_data=extra_data)]
    return [float(reward) for reward in function(completions)]


if __name__ == "__main__":
    main()
