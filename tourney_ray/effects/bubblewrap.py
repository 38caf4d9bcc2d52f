"""Command lines for bubblewrap: no network, no other processes, and of the host's files only what is needed inside.

It bounds neither memory nor the number of processes and builds no image: for the code of bundled sample miners, not of
strangers; and for code of ours that reads a stranger's files, whose bounds `evaluator_sandbox` sets.
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
    words = ["bwrap", *ISOLATION, *_system(), "--remount-ro", "/", "--", "/usr/bin/env", "true"]
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
    words = ["bwrap", *ISOLATION, "--json-status-fd", str(status), *_system(), "--dir", CACHE, "--dir", CHECKPOINTS]
    for inside, outside in binds.items():
        words += ["--ro-bind", str(outside), inside]
    for inside, outside in writable.items():
        words += ["--bind", str(outside), inside]
    return [*words, *_variables(env), "--remount-ro", "/", "--chdir", WORKSPACE, "--", *program]


def reading_command(
    program: Sequence[str], env: Mapping[str, str], readable: Sequence[Path], covered: Sequence[Path], tmp_bytes: int
) -> list[str]:
    """The words that run `program` where it can read what is `readable`, at the same paths, and write to `/tmp` only.

    What comes into a readable folder later is seen inside, too. Folders that are `covered` look empty. `/tmp` holds
    `tmp_bytes`. NVIDIA's devices are there where this machine has any.
    """
    words = ["bwrap", *ISOLATION, *_system(tmp_bytes)]
    for path in readable:
        words += ["--ro-bind", str(path), str(path)]
    for path in covered:
        words += ["--size", "4096", "--tmpfs", str(path)]
    for device in sorted(Path("/dev").glob("nvidia*")):
        words += ["--dev-bind-try", str(device), str(device)]
    return [*words, *_variables(env), "--remount-ro", "/", "--chdir", "/tmp", "--", *program]


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


def _variables(env: Mapping[str, str]) -> list[str]:
    return [word for name, value in env.items() for word in ("--setenv", name, value)]


def _system(tmp_bytes: int = 0) -> list[str]:
    """The mounts of every sandbox; `/tmp` is as large as half of the memory unless its bytes are given."""
    size = ["--size", str(tmp_bytes)] if tmp_bytes else []
    words = ["--proc", "/proc", "--dev", "/dev", *size, "--tmpfs", "/tmp"]
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
