"""Run as a script: becomes the given program, which the kernel kills as soon as the watcher that started it is gone.

Usage: `python -I -S launch.py WATCHER_PID [--join FILE]… PROGRAM [ARGUMENT…]`. Imports next to nothing, for it runs in
every attempt. Each FILE is the entrance of a control group, into which it goes first.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
JOIN = "--join"


def become(watcher: int, words: list[str]) -> None:
    """Replace this process by the program; exits with 127 when that cannot be started, 1 when the watcher is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != watcher:
        sys.exit("the watcher is gone")
    program = joined(words)
    try:
        os.execvp(program[0], program)
    except OSError as problem:
        print(f"{program[0]} cannot be started: {problem.strerror}", file=sys.stderr)
        sys.exit(127)


def joined(words: list[str]) -> list[str]:
    """The program among these words, after this process has gone into the groups that they begin with."""
    while words[0] == JOIN:
        with open(words[1], "w", encoding="ascii") as entrance:
            entrance.write(str(os.getpid()))
        words = words[2:]
    return words


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
