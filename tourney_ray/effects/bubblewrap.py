"""A command line for bubblewrap: no network, no other processes, and of the host's files only what a trainer needs.

It bounds neither memory nor the number of processes and builds no image: for bundled sample miners, not for strangers.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from tourney_ray.effects.contract import CACHE, CHECKPOINTS, WORKSPACE

ISOLATION = ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
LOADER = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/sys/devices/system/cpu")
PROBE_S = 10.0
HOST_PATH = {"PATH": os.environ.get("PATH", os.defpath)}
"""All that bubblewrap itself gets of our environment."""


@functools.cache
def why_not() -> str:
    """Why bubblewrap cannot be used on this machine; empty when it can. Asks once, by running `true` in it."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    words = ["bwrap", *ISOLATION, *_mounts(), "--remount-ro", "/", "--", "/usr/bin/env", "true"]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=PROBE_S, check=False, env={"PATH": os.defpath}
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"bubblewrap does not answer: {problem}"
    return "" if done.returncode == 0 else f"bubblewrap does not work here: {done.stderr.strip()}"


def command(
    program: Sequence[str], env: Mapping[str, str], binds: Mapping[str, Path], writable: Mapping[str, Path], status: int
) -> list[str]:
    """The words that run `program` in a sandbox whose facts arrive on the descriptor `status`.

    `binds` and `writable` say which path of the host appears at which path inside, read-only and not.
    """
    words = ["bwrap", *ISOLATION, "--json-status-fd", str(status), *_mounts()]
    for inside, outside in binds.items():
        words += ["--ro-bind", str(outside), inside]
    for inside, outside in writable.items():
        words += ["--bind", str(outside), inside]
    for name, value in env.items():
        words += ["--setenv", name, value]
    return [*words, "--remount-ro", "/", "--chdir", WORKSPACE, "--", *program]


def child_of(status: bytes) -> int | None:
    """Process id, outside, of the sandbox's own first process; None as long as it is not known."""
    return _number(status, "child-pid")


def exit_code_of(status: bytes) -> int | None:
    """Exit code of the program; None when bubblewrap never got to start it, or was killed."""
    return _number(status, "exit-code")


def _number(status: bytes, name: str) -> int | None:
    for line in status.splitlines(keepends=True):
        if line.endswith(b"\n"):
            value = cast("dict[str, int]", json.loads(line)).get(name)
            if value is not None:
                return value
    return None


def _mounts() -> list[str]:
    words = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", CACHE, "--dir", CHECKPOINTS]
    for path in (*SYSTEM, *LOADER):
        words += ["--ro-bind-try", path, path]
    for folder in python_folders():
        words += ["--ro-bind", str(folder), str(folder)]
    return words


def python_folders() -> list[Path]:
    """Where this Python and its packages live, as named and as resolved, without what the system's folders hold."""
    named = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent]
    folders = sorted({folder for path in named for folder in (path, path.resolve())})
    return [folder for folder in folders if not any(folder.is_relative_to(system) for system in SYSTEM)]
