"""Run as a script: gives itself limits that it cannot lift again, then becomes the given program.

Usage: `python -I -S limits.py NAME=NUMBER… -- PROGRAM [ARGUMENT…]`, each NAME as in `resource.RLIMIT_NAME`. Run inside
of a sandbox, where the number of processes is counted apart from those outside.
"""

import os
import resource
import sys

END = "--"


def become(words: list[str]) -> None:
    """Replace this process by the program, within the limits; exits with 127 when that cannot be started."""
    at = words.index(END)
    for word in words[:at]:
        name, _, number = word.partition("=")
        kind = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(kind)
        wanted = int(number) if most == resource.RLIM_INFINITY else min(int(number), most)
        resource.setrlimit(kind, (wanted, wanted))
    program = words[at + 1 :]
    try:
        os.execvp(program[0], program)
    except OSError as problem:
        print(f"{program[0]} cannot be started: {problem.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    become(sys.argv[1:])
