"""The trainer of the demo: runs bundled sample miners under bubblewrap, or, where that is missing, as plain processes.

Guarantee: code whose tree is not on the list never starts; when an outcome is returned, nothing of the training runs
any more. The thread that calls `train` has to stay alive meanwhile: the kernel kills the trainer together with it.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from tourney_ray.core.models import Blame, Failed, TrainingOutcome, TrainingSpec
from tourney_ray.effects import bubblewrap, contract
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.attempt_folder import AttemptFolder, file_name
from tourney_ray.effects.collect import OutputCaps
from tourney_ray.effects.keeping import Remains, keep_failure, keep_remains
from tourney_ray.effects.ports import News
from tourney_ray.effects.process import Job
from tourney_ray.effects.processes import end, mark_of
from tourney_ray.effects.provenance import Course, Provenance, model_digest, provenance_of
from tourney_ray.effects.removal import remove_tree
from tourney_ray.effects.staging import Stage, check_tree, program_of
from tourney_ray.errors import EngineDown, RepoRejected, StorageUnavailable

Kind = Literal["auto", "bubblewrap", "process"]
GRACE_S = 2.0
"""Between the polite request to stop at the deadline and the kill."""

SETUP_S = 20.0
"""How long bubblewrap may take to say which process is the trainer's."""

LAST_WORDS = 300
"""Most characters of a trainer's last line in a reason."""

KILLED_CODES = (-9, 137)
"""A process that signal 9 ended, as seen from outside and by bubblewrap."""

WARNING = (
    "WARNING: trainers run as plain processes that see this machine's files and network; nothing is isolated, "
    "so only the bundled sample miners may run"
)


class SandboxTrainer:
    """The `Trainer` port without containers.

    `root` is the operator's folder of task data; `work` is this machine's scratch folder; `allowed_trees` are the tree
    ids that may run. No training runs longer than `max_seconds`. Outputs are kept in `store`: by default the folder
    `artifacts` of `root`.
    """

    def __init__(
        self,
        root: Path,
        work: Path,
        allowed_trees: frozenset[str],
        kind: Kind = "auto",
        max_seconds: float | None = None,
        caps: OutputCaps | None = None,
        store: ArtifactStore | None = None,
    ) -> None:
        self._root = root.absolute()
        self._store = store or ArtifactStore(str(self._root / "artifacts"))
        self._work = work.absolute()
        self._allowed_trees = allowed_trees
        self._max_seconds = max_seconds
        self._caps = caps or OutputCaps()
        self._isolated = _can_isolate(kind)

    @property
    def isolation(self) -> Literal["bubblewrap", "none"]:
        """What stands between a trainer and this machine."""
        return "bubblewrap" if self._isolated else "none"

    @property
    def warning(self) -> str:
        """One line that whoever starts trainings has to read; empty when they are isolated."""
        return "" if self._isolated else f"{WARNING} ({bubblewrap.why_not() or 'as it was asked for'})"

    def train(self, spec: TrainingSpec, source: Path, news: News) -> TrainingOutcome:
        """Run the tree at `source` to its end or its deadline and collect its output.

        Raises `RepoRejected` for a tree that is not on the list or cannot be started, and `PlatformFault` for ours.
        """
        self._check_allowed(spec)
        check_tree(spec, source)
        program = program_of(spec, source)
        folder = AttemptFolder(self._work, spec)
        try:
            with contextlib.ExitStack() as running:
                with folder.held():
                    if ended := folder.outcome():
                        return ended
                    job = running.enter_context(self._start(spec, folder, program, source.absolute()))
                    self._remember(spec, folder, job)
                outcome = self._watch(spec, folder, job, news)
            return folder.write_outcome(outcome)
        except OSError as problem:
            raise _not_kept(spec, problem) from problem

    def adopt(self, spec: TrainingSpec) -> TrainingOutcome | None:
        """The outcome of an attempt whose watcher was lost; None when this epoch of it never started and still may.

        What still runs of it is ended first: nobody can hear its output any more. Without a stored outcome it counts as
        lost by the platform.
        """
        folder = AttemptFolder(self._work, spec)
        before = folder.started()
        if before is None:
            return folder.outcome()
        if before.epoch != spec.epoch:
            end(before.marks())
            return None
        reason = "the watcher of this training was lost, and the training ended with it"
        outcome = folder.write_outcome(Failed(blame=Blame.PLATFORM, kind="lost", reason=reason))
        end(before.marks())
        return outcome

    def release(self, spec: TrainingSpec) -> str:
        """How it is known that nothing runs of this epoch of an attempt, nor ever will, on this machine.

        A watcher that has not started it yet finds it ended and starts nothing. Raises `EngineDown` when something of
        it cannot be ended or runs where nobody can see it from here, `StorageUnavailable` when the disk fails.
        """
        folder = AttemptFolder(self._work, spec)
        try:
            with folder.held():
                return _release(spec, folder)
        except OSError as problem:
            raise _not_kept(spec, problem) from problem

    def _check_allowed(self, spec: TrainingSpec) -> None:
        if spec.tree_hash not in self._allowed_trees:
            raise RepoRejected(
                f"{spec.hotkey}'s tree {spec.tree_hash[:12]} is not a bundled sample: without containers this machine "
                "runs bundled samples only; Docker is needed for strangers' code"
            )

    def _start(self, spec: TrainingSpec, folder: AttemptFolder, program: list[str], source: Path) -> Job:
        if before := folder.started():
            end(before.marks())
        stage = Stage(self._root, self._work, spec, folder)
        return stage.start_isolated(program, source) if self._isolated else stage.start_plain(program, source)

    def _remember(self, spec: TrainingSpec, folder: AttemptFolder, job: Job) -> None:
        """Write down the leaders of the job's sessions, of which bubblewrap makes one more."""
        if self._isolated:
            job.wait_for_status(min(self._deadline(spec, job), job.started_at + SETUP_S))
            child = bubblewrap.child_of(job.status)
            job.leaders += [mark for mark in (mark_of(child) if child else None,) if mark]
        folder.write_started(job.leaders)

    def _deadline(self, spec: TrainingSpec, job: Job) -> float:
        """The end of its time on the monotonic clock."""
        hours_s = spec.hours_to_complete * 3600
        return job.started_at + min(hours_s, self._max_seconds or hours_s)

    def _watch(self, spec: TrainingSpec, folder: AttemptFolder, job: Job, news: News) -> TrainingOutcome:
        news.running((), "")
        code = job.wait(self._deadline(spec, job))
        if code is None:
            job.stop(GRACE_S)
        end(job.leaders)
        record = self._record(spec, time.monotonic() - job.started_at, code)
        logs = file_name(contract.log_folder(spec))
        remains = Remains(folder.checkpoints, contract.output_folder(spec), self._work, f"{contract.LOGS}/{logs}")
        try:
            if code:
                return keep_failure(self._store, remains, record, self._crashed(job, code, record.course.seconds))
            return keep_remains(self._store, remains, record, job.log_tail(), self._caps)
        finally:
            remove_tree(folder.checkpoints)

    def _crashed(self, job: Job, code: int, seconds: float) -> Failed:
        """A trainer that ended by itself and not well; raises `EngineDown` when it was bubblewrap that did."""
        tail = job.log_tail()
        last = (tail.strip().splitlines() or ["it said nothing"])[-1][-LAST_WORDS:]
        if self._isolated and bubblewrap.exit_code_of(job.status) is None and not tail.startswith("bwrap: execvp"):
            raise EngineDown(f"bubblewrap ended with {code} before the trainer did: {last}")
        reason = f"trainer exited with {code}: {last}"
        if code in KILLED_CODES:
            reason = (
                f"trainer was killed by signal 9, not by us, most likely for want of memory; its last words: {last}"
            )
        return Failed(blame=Blame.MINER, kind="crashed", reason=reason, seconds=seconds, log_tail=tail)

    def _record(self, spec: TrainingSpec, seconds: float, code: int | None) -> Provenance:
        """Where what this training left comes from. `code` is its exit code, None for one stopped at its deadline."""
        record, now = provenance_of(spec), datetime.now(UTC)
        engine = "bubblewrap" if self._isolated else "none"
        model = model_digest(self._root / spec.data.model_path)
        return record.model_copy(
            update={
                "inputs": record.inputs.model_copy(update={"model_sha256": model}),
                "machine": record.machine.model_copy(update={"node": os.uname().nodename, "engine": engine}),
                "course": Course(
                    started_at=now - timedelta(seconds=seconds),
                    finished_at=now,
                    seconds=seconds,
                    exit_code=code,
                    stopped_at_deadline=code is None,
                ),
            }
        )


def _release(spec: TrainingSpec, folder: AttemptFolder) -> str:
    """What `release` does while it holds the attempt."""
    before = folder.started()
    if before and not before.here:
        hint = "look there, stop Ray on this node, and then `tourney fence` it"
        raise EngineDown(f"attempt {spec.attempt_id} was started on another machine, or before a restart", hint)
    if before and before.epoch > spec.epoch:
        return "a later epoch ended it when it started"
    if before is None or before.epoch < spec.epoch:
        end(before.marks() if before else ())
        folder.begin()
        folder.write_outcome(Failed(blame=Blame.PLATFORM, kind="released", reason="it was released before it started"))
        return "it has not started, and will not"
    reason = "it was released, and the training ended with it"
    folder.write_outcome(Failed(blame=Blame.PLATFORM, kind="released", reason=reason))
    end(before.marks())
    return "its processes are gone"


def _not_kept(spec: TrainingSpec, problem: OSError) -> StorageUnavailable:
    return StorageUnavailable(f"attempt {spec.attempt_id} could not be kept on disk: {problem}")


def _can_isolate(kind: Kind) -> bool:
    """Whether trainers run under bubblewrap; raises `EngineDown` when that was asked for and does not work."""
    if kind == "bubblewrap" and bubblewrap.why_not():
        raise EngineDown(bubblewrap.why_not(), "install it, for example: apt-get install bubblewrap")
    return kind != "process" and not bubblewrap.why_not()
