"""One run of the command line tool's builder, bounded in time, memory, processes and disk."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from docker.errors import APIError

from tourney_ray.core.quoting import shown
from tourney_ray.effects.contract import dockerfile_at
from tourney_ray.effects.engine.build_bounds import PARENT, is_bounded
from tourney_ray.effects.engine.connection import OUT_OF_DISK, Engine, connect, translated
from tourney_ray.errors import EngineDown, ImageBuildFailed, StorageUnavailable

GIB = 2**30
TREE, KIND = "tourney.tree", "tourney.kind"
"""Labels of an image of ours."""

LOOK_S = 1.0
"""How often the disk is looked at while a build runs: no event tells that it fills up."""

NAME = "tourney/miner"
"""Of the images of miners, on which no other miner's may be based."""

KILL_S = 20.0
NOT_FOUND, CONFLICT = 404, 409
STEP = re.compile(r"^(?:Step (\d+/\d+) : (.*)|#\d+ \[[^]]*?(\d+/\d+)\] (.*))$", re.MULTILINE)
"""How the legacy builder and BuildKit announce a step."""

GONE = re.compile(r"cannot connect to the docker daemon|error during connect|EOF$|connection reset", re.IGNORECASE)
MINERS = re.compile(
    r"returned a non-zero code: \d+$|did not complete successfully|dockerfile parse error", re.IGNORECASE
)
"""The last line where a step failed, or there is none such: what it quotes is the miner's own text."""

LOG_BYTES = 1_000_000
RESERVE_BYTES = GIB
"""Of the engine's disk, never left to a build."""

LAUNCHER = Path(__file__).parents[1] / "launch.py"
"""Has the kernel kill the builder when whoever waits for it dies."""


@dataclass(frozen=True)
class BuildLimits:
    """What a build may use."""

    deadline_s: float = 3600.0
    mem_bytes: int = 16 * GIB
    pids: int = 1024
    layer_bytes: int = 40 * GIB
    """What all its steps may write, and what the image may hold above the ones it begins with."""
    network: str = "none"


class Build:
    """One run of the builder."""

    def __init__(self, engine: Engine, kind: str, tree_hash: str, source: Path, log: Path, limits: BuildLimits) -> None:
        self._engine = engine
        self._kind = kind
        self._tree_hash = tree_hash
        self._source = source
        self._log = log
        self._limits = limits
        self._free_bytes = self._free()
        self._most_bytes = min(limits.layer_bytes, max(self._free_bytes - RESERVE_BYTES, 0))

    def run(self, group: str) -> str:
        """The id of the image; raises as `build_image` does."""
        with tempfile.TemporaryDirectory(prefix="tourney-build-") as scratch:
            told = Path(scratch) / "id"
            words = self._words(group, told)
            environment = {"PATH": os.environ.get("PATH", os.defpath), "DOCKER_HOST": self._engine.host}
            environment |= {
                "DOCKER_CONFIG": scratch,
                "HOME": scratch,
                "DOCKER_BUILDKIT": "1" if has_buildkit() else "0",
            }
            self._log.unlink(missing_ok=True)
            with self._log.open("ab") as log:
                builder = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *words],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                try:
                    self._wait(builder)
                finally:
                    _end(builder)
                    if builder.returncode:
                        self._clean_up(group)
            if builder.returncode:
                raise self._failure(builder.returncode)
            return told.read_text(encoding="ascii").strip()

    def _clean_up(self, group: str) -> None:
        """Leave no container of a step behind; of an engine that has gone away, the next build does it."""
        with contextlib.suppress(EngineDown):
            remove_steps(self._engine, group)

    def _words(self, group: str, told: Path) -> list[str]:
        choice = self._limits
        words = ["docker", "buildx", "build", "--load", "--progress=plain"] if has_buildkit() else ["docker", "build"]
        words += ["--force-rm", "--rm", "--no-cache", f"--memory={choice.mem_bytes}"] if not has_buildkit() else []
        words += [f"--file={self._source / dockerfile_at(self._kind)}", f"--network={choice.network}", "--pull=false"]
        words += [
            f"--cgroup-parent={group}",
            f"--iidfile={told}",
            f"--tag={NAME}:{self._kind}-{self._tree_hash}",
        ]
        words += [f"--label={TREE}={self._tree_hash}", f"--label={KIND}={self._kind}"]
        return [*words, str(self._source)]

    def _wait(self, builder: subprocess.Popen[bytes]) -> None:
        """Return when the builder has ended; raise `ImageBuildFailed` when it takes too long or writes too much."""
        until = time.monotonic() + self._limits.deadline_s
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                builder.wait(min(LOOK_S, left))
                return
            if self._free_bytes - self._free() > self._most_bytes:
                raise ImageBuildFailed(self._where(f"it wrote more than {self._most_bytes / GIB:.1f} GiB"))
            if self._log.stat().st_size > LOG_BYTES:
                os.truncate(self._log, 0)
        raise ImageBuildFailed(self._where(f"it took longer than {self._limits.deadline_s:.0f} s"))

    def _free(self) -> int:
        """Bytes free where the engine keeps its layers."""
        with translated("measuring the disk of the container engine"):
            return shutil.disk_usage(self._engine.facts.root_dir).free

    def _failure(self, code: int) -> ImageBuildFailed | EngineDown | StorageUnavailable:
        """What it means that the builder ended with an error."""
        said = self._said()
        last = shown((said.strip().splitlines() or [f"exit code {code}"])[-1], 300)
        if GONE.search(last) and not MINERS.search(last):
            connect(self._engine.host).close()
            return EngineDown(f"the engine went away during a build: {last}", "see the engine's log on this node")
        if OUT_OF_DISK.search(said) and self._free() < GIB:
            return StorageUnavailable(f"the engine's disk is full: {last}", "make room where its images lie")
        return ImageBuildFailed(self._where(last))

    def _where(self, what: str) -> str:
        """`image build failed at step 4/9 (RUN …): what`."""
        steps = STEP.findall(self._said())
        if not steps:
            return f"image build failed: {what}"
        old, words, new, other = steps[-1]
        return f"image build failed at step {old or new} ({shown(words or other, 100)}): {what}"

    def _said(self) -> str:
        return self._log.read_bytes()[-LOG_BYTES:].decode("utf-8", errors="replace")


def _end(builder: subprocess.Popen[bytes]) -> None:
    """Have the engine cancel the build, as it does when its client goes."""
    if builder.poll() is not None:
        return
    builder.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        builder.wait(KILL_S)
        return
    builder.kill()
    builder.wait()


def remove_steps(engine: Engine, group: str = "") -> None:
    """Remove the containers of steps: of the build in that group, and of all builds that are over.

    The engine does it itself when a build is cancelled, a moment later; it does not when it dies meanwhile.
    """
    with translated("removing the containers of builds"):
        for one in engine.client.api.containers(all=True):
            try:
                parent = str(engine.client.api.inspect_container(one["Id"])["HostConfig"]["CgroupParent"])
                if parent.startswith(f"/{PARENT}/") and (parent == group or not is_bounded(parent)):
                    engine.client.api.remove_container(one["Id"], force=True, v=True)
            except APIError as error:
                if error.status_code not in (NOT_FOUND, CONFLICT):  # the engine removes it at this very moment
                    raise


def has_buildkit() -> bool:
    """Whether the command line tool has its BuildKit plugin, installed for everybody."""
    with tempfile.TemporaryDirectory(prefix="tourney-build-") as nothing:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "DOCKER_CONFIG": nothing, "HOME": nothing}
        try:
            words = ["docker", "buildx", "version"]
            return subprocess.run(words, env=environment, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            raise EngineDown(
                "the command line tool `docker` is not on this node", "install it: images are built with it"
            ) from None
