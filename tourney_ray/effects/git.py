"""Git, locked down for strangers' repositories: one command at a time, one protocol, bounded in time and bytes.

No configuration of the machine or of the user counts, no hook, filter, helper, prompt, proxy or redirect is followed,
and nothing of the repository is executed. Every process of a command is gone when the command has ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tourney_ray.errors import StorageUnavailable

_MEMORY_KIB = 4 * 2**20
"""Address space of each git process: several times what unpacking honest code takes; stops delta bombs."""
_LISTING_BYTES = 64 * 2**20
"""Output of a command that only lists: some 500,000 paths; a tree that multiplies itself ends here."""
_STDERR_TAIL = 4096

_SETTINGS = (
    "protocol.allow=never",
    "protocol.version=2",
    "http.followRedirects=false",
    "http.proxy=",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    "credential.helper=",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=false",
    "core.autocrlf=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.bigFileThreshold=16m",
    "core.packedGitWindowSize=64m",
    "core.packedGitLimit=256m",
    "transfer.fsckObjects=true",
    "transfer.bundleURI=false",
    "fetch.unpackLimit=1",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "pack.threads=2",
)


@dataclass(frozen=True)
class GitRun:
    """How a git command ended."""

    status: int
    out: bytes
    err: str
    """The end of what it said, at most 4 KiB, in English."""
    too_big: bool
    """Whether it failed for writing a file larger than allowed."""


@dataclass(frozen=True)
class LockedGit:
    """Runs git commands on the bare repository at `git_dir` until `ends_at` on the monotonic clock."""

    git_dir: Path
    protocol: str
    """The only transport that may be used: `https` or `file`."""
    ends_at: float
    resolved: str = ""
    """`host:port:address[,address]`, the addresses that the host is reached at; empty asks the resolver."""

    def run(self, *args: str, work_tree: Path | None = None, file_bytes: int = _LISTING_BYTES) -> GitRun:
        """Run one command; no file it writes, its output included, grows past `file_bytes`.

        Raises `TimeoutError` past the deadline and `StorageUnavailable` when there is no git or no room.
        """
        if shutil.which("git") is None:
            raise StorageUnavailable("git is not installed on this node", "install the package 'git'")
        try:
            self.git_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.git_dir) as out, tempfile.TemporaryFile(dir=self.git_dir) as err:
                status = self._wait(self._start(args, work_tree, file_bytes, (out, err)))
                said = _read(err, _STDERR_TAIL).decode("utf-8", "replace")
                return GitRun(status, _read(out, 0), said, status != 0 and self._hit_bound(status, file_bytes))
        except TimeoutError:
            raise
        except OSError as error:
            raise StorageUnavailable(f"git could not run in {self.git_dir}: {error.strerror}") from error

    def _start(
        self, args: tuple[str, ...], work_tree: Path | None, file_bytes: int, outputs: tuple[IO[bytes], IO[bytes]]
    ) -> subprocess.Popen[bytes]:
        settings = [*_SETTINGS, f"protocol.{self.protocol}.allow=always"]
        if self.resolved:
            settings.append(f"http.curloptResolve={self.resolved}")
        bounds = f'ulimit -f {-(-file_bytes // 512)}; ulimit -v {_MEMORY_KIB}; exec "$@"'
        options = [part for setting in settings for part in ("-c", setting)]
        return subprocess.Popen(
            ["sh", "-c", bounds, "sh", "git", *options, *args],
            stdin=subprocess.DEVNULL,
            stdout=outputs[0],
            stderr=outputs[1],
            env=self._environment(work_tree),
            cwd=self.git_dir,
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(timeout=max(0.0, self.ends_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            _kill_group(process)

    def _hit_bound(self, status: int, file_bytes: int) -> bool:
        """Whether the command itself, or the unpacking of what it received, was killed for writing too much."""
        packs = self.git_dir.glob("objects/pack/tmp_*")
        return -status == signal.SIGXFSZ or any(pack.stat().st_size >= file_bytes for pack in packs)

    def _environment(self, work_tree: Path | None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "GIT_SSL_CAINFO") if name in os.environ}
        placed = {"GIT_WORK_TREE": str(work_tree)} if work_tree else {}
        return (
            kept
            | placed
            | {
                "GIT_DIR": str(self.git_dir),
                "HOME": str(self.git_dir),
                "LC_ALL": "C",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_CONFIG_SYSTEM": os.devnull,
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_ATTR_NOSYSTEM": "1",
                "GIT_ALLOW_PROTOCOL": self.protocol,
                "GIT_ASKPASS": "",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_NO_REPLACE_OBJECTS": "1",
            }
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(stream: IO[bytes], tail: int) -> bytes:
    """What `stream` holds, or only its last `tail` bytes when `tail` is not 0."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - tail) if tail else 0)
    return stream.read()
