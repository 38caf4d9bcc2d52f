"""Run as a script: becomes the given program, which the kernel kills as soon as the watcher that started it is gone.

Usage: `python -I -S launch.py WATCHER_PID PROGRAM [ARGUMENT…]`. Imports next to nothing, for it runs in every attempt.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(watcher: int, program: list[str]) -> None:
    """Replace this process by `program`; exits with 127 when that cannot be started, 1 when the watcher is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != watcher:
        sys.exit("the watcher is gone")
    try:
        os.execvp(program[0], program)
    except OSError as problem:
        print(f"{program[0]} cannot be started: {problem.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
