"""One run of the command line tool's legacy builder, bounded in time, memory, CPUs, processes and disk.

BuildKit is not used, whether it is there or not: what its steps write cannot be told from what others write, it keeps
all of it in a cache that belongs to no build, and not every engine puts its steps into the control group that we name.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tourney_ray.core.quoting import shown
from tourney_ray.effects.contract import dockerfile_at
from tourney_ray.effects.engine.build_leftovers import end_steps, fail_steps, forget_name
from tourney_ray.effects.engine.build_steps import Steps
from tourney_ray.effects.engine.connection import OUT_OF_DISK, Engine, connect, translated
from tourney_ray.errors import EngineDown, ImageBuildFailed, StorageUnavailable

MIB = 2**20
GIB = 2**30
TREE, KIND = "tourney.tree", "tourney.kind"
"""Labels of an image of ours."""

LOOK_S = 1.0
"""How often it is looked at what a build has written: no event tells of that."""

LOOK_SHARE = 0.1
"""Of a build's time at most goes into looking, which takes as long as there are files."""

NAME = "tourney/miner"
"""Of the images of miners, on which no other miner's may be based."""

FAIL_S = 120.0
"""How long a build that is to end may go on with steps that cannot be made to fail, such as copying."""

AGAIN_S = 0.2
"""After which a step is looked for that has begun since."""

END_S = 5.0
"""For the builder's process to end when it has said everything, or is told to."""

CHUNK = 65_536
STEP = re.compile(r"^Step (\d+/\d+) : (.*)$", re.MULTILINE)
"""How the builder announces a step."""

GONE = re.compile(r"cannot connect to the docker daemon|error during connect|EOF$|connection reset", re.IGNORECASE)
MINERS = re.compile(r"returned a non-zero code: \d+$|dockerfile parse error", re.IGNORECASE)
"""The last line where a step failed, or there is none such: what it quotes is the miner's own text."""

FILE_TOO_LARGE = "returned a non-zero code: 153"
"""128 and the number of SIGXFSZ, with which the kernel stops whoever writes past `--ulimit=fsize`."""

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
    cpus: float = 8.0
    """At most those of the node."""
    layer_bytes: int = 40 * GIB
    """What all its steps may write, and what the image may hold above the ones it begins with."""
    layer_files: int = 2_000_000
    """What one step may make, folders included."""
    context_bytes: int = 2 * GIB
    """Of the files that are sent to the engine."""
    context_entries: int = 100_000
    """Files, folders and links that are sent to the engine."""
    network: str = "none"


class Build:
    """One run of the builder."""

    def __init__(
        self, engine: Engine, kind: str, tree_hash: str, source: Path, log: Path, limits: BuildLimits, steps: Steps
    ) -> None:
        self._engine = engine
        self._kind = kind
        self._tree_hash = tree_hash
        self._source = source
        self._log = log
        self._limits = limits
        self._steps = steps

    def run(self, group: str) -> str:
        """The id of the image; raises as `build_image` does."""
        with tempfile.TemporaryDirectory(prefix="tourney-build-") as scratch:
            told = Path(scratch) / "id"
            environment = {"PATH": os.environ.get("PATH", os.defpath), "DOCKER_HOST": self._engine.host}
            environment |= {"DOCKER_CONFIG": scratch, "HOME": scratch, "DOCKER_BUILDKIT": "0"}
            self._log.write_bytes(b"")
            with subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *self._words(group, told)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as builder:
                built = False
                try:
                    self._wait(builder, group)
                    built = builder.returncode == 0
                finally:
                    self._end(builder, group)
                    if not built:
                        self._clean_up(group)
            if not built:
                raise self._failure(builder.returncode)
            return told.read_text(encoding="ascii").strip()

    def _clean_up(self, group: str) -> None:
        """Leave no container of a step and no name behind; of an engine that has gone away, the next build does it."""
        with contextlib.suppress(EngineDown):
            end_steps(self._engine, group)
            forget_name(self._engine, name_of(self._kind, self._tree_hash))

    def _words(self, group: str, told: Path) -> list[str]:
        choice = self._limits
        return [
            *("docker", "build", "--force-rm", "--rm", "--no-cache", "--pull=false"),
            f"--memory={choice.mem_bytes}",
            f"--ulimit=fsize={choice.layer_bytes + MIB}",
            f"--network={choice.network}",
            f"--cgroup-parent={group}",
            f"--file={self._source / dockerfile_at(self._kind)}",
            f"--iidfile={told}",
            f"--tag={name_of(self._kind, self._tree_hash)}",
            f"--label={TREE}={self._tree_hash}",
            f"--label={KIND}={self._kind}",
            str(self._source),
        ]

    def _wait(self, builder: subprocess.Popen[bytes], group: str) -> None:
        """Return when the builder has ended; raise `ImageBuildFailed` when it takes too long or writes too much."""
        until = time.monotonic() + self._limits.deadline_s
        look_at = time.monotonic() + LOOK_S
        while (now := time.monotonic()) < until:
            if now >= look_at:
                self._look(group)
                took = time.monotonic() - now
                look_at = now + took + max(LOOK_S, took / LOOK_SHARE)
            if self._heard_all(builder, min(max(look_at - time.monotonic(), 0.0), until - now)):
                _stop(builder)
                return
        raise ImageBuildFailed(self._where(f"it took longer than {self._limits.deadline_s:.0f} s"))

    def _heard_all(self, builder: subprocess.Popen[bytes], patience_s: float) -> bool:
        """Keep what it says next; whether it has said everything."""
        assert builder.stdout is not None
        poll = select.poll()
        poll.register(builder.stdout, select.POLLIN)
        if not poll.poll(patience_s * 1000):
            return False
        said = os.read(builder.stdout.fileno(), CHUNK)
        if self._log.stat().st_size > LOG_BYTES:
            os.truncate(self._log, 0)
        with self._log.open("ab") as log:
            log.write(said)
        self._steps.hear(said)
        return not said

    def _look(self, group: str) -> None:
        """Raise `ImageBuildFailed` when its own steps have written too much.

        What others write on the same disk is not theirs: where that runs short, it is `StorageUnavailable`.
        """
        most, kept = self._limits.layer_bytes, self._steps.image_bytes()
        if kept + self._steps.written_bytes(group, max(most - kept, 0), self._limits.layer_files) > most:
            raise ImageBuildFailed(self._where(f"it wrote more than {most / GIB:.1f} GiB, or too many files"))
        if self._free() < RESERVE_BYTES:
            raise StorageUnavailable(
                f"the engine's disk has less than {RESERVE_BYTES / GIB:.0f} GiB left during a build",
                "make room on this node, or give the engine a larger data root",
            )

    def _end(self, builder: subprocess.Popen[bytes], group: str) -> None:
        """Have the build fail, step by step, until the builder has said everything; only then the engine is done.

        A builder that goes away before leaves the engine at work on a step, of whose image nobody hears.
        """
        until = time.monotonic() + FAIL_S
        with contextlib.suppress(EngineDown):
            while builder.poll() is None and time.monotonic() < until and self._free() > RESERVE_BYTES:
                fail_steps(self._engine, group)
                if self._heard_all(builder, AGAIN_S):
                    break
        _stop(builder)

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
        if last.endswith(FILE_TOO_LARGE):
            last = f"it wrote a file of more than {self._limits.layer_bytes / GIB:.1f} GiB; {last}"
        return ImageBuildFailed(self._where(last))

    def _where(self, what: str) -> str:
        """`image build failed at step 4/9 (RUN …): what`."""
        steps = STEP.findall(self._said())
        if not steps:
            return f"image build failed: {what}"
        number, words = steps[-1]
        return f"image build failed at step {number} ({shown(words, 100)}): {what}"

    def _said(self) -> str:
        return self._log.read_bytes()[-LOG_BYTES:].decode("utf-8", errors="replace")


def _stop(builder: subprocess.Popen[bytes]) -> None:
    """Its process, if it has not ended by itself: the engine cancels a build whose client goes."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        builder.wait(END_S)
        return
    builder.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        builder.wait(END_S)
        return
    builder.kill()
    builder.wait()


def name_of(kind: str, tree_hash: str) -> str:
    """The name that an image of that tree gets."""
    return f"{NAME}:{kind}-{tree_hash}"


def require_builder() -> None:
    """Raise `EngineDown` where the command line tool is missing."""
    if shutil.which("docker") is None:
        raise EngineDown("the command line tool `docker` is not on this node", "install it: images are built with it")
