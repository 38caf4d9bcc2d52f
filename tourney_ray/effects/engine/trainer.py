"""The trainer of strangers' code: one container per attempt, started or taken over, watched, stopped, collected.

Guarantee: at most one container of an attempt exists on a node. When `train` or `release` returns, it is gone, and a
note says so to whoever else watches the attempt: nobody can start it once more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

from docker.errors import APIError, DockerException, ImageNotFound
from requests import RequestException

from tourney_ray.core.models import Blame, Failed, TrainingOutcome, TrainingSpec
from tourney_ray.core.record import Record
from tourney_ray.effects.attempt_folder import AttemptFolder
from tourney_ray.effects.engine.connection import Engine, translated
from tourney_ray.effects.engine.containers import Container, Containers
from tourney_ray.effects.engine.ending import Ending, Stopped, failure, not_started
from tourney_ray.effects.engine.etc_files import write_etc
from tourney_ray.effects.engine.events import Feed
from tourney_ray.effects.engine.gpu_claims import GpuClaims
from tourney_ray.effects.engine.gpus import choose, node_lock, taken_by
from tourney_ray.effects.engine.labels import OurLabels, labels_of
from tourney_ray.effects.engine.options import Limits, Mounts, asks_for_strict, effective, run_options
from tourney_ray.effects.engine.output_disk import OutputDisk
from tourney_ray.effects.engine.watch import Watch, Watched
from tourney_ray.effects.ports import News, Place
from tourney_ray.effects.processes import this_machine
from tourney_ray.effects.ran import Ran
from tourney_ray.effects.task_cache import TaskCache
from tourney_ray.errors import EngineDown, InputsMissing, MinerFault, StorageUnavailable


class Begun(Record):
    """Written as soon as a container has started: its deadline counts from here."""

    container_id: str
    machine: str
    started_s: float
    """On this machine's monotonic clock."""


class ContainerTrainer:
    """The `Trainer` port with a container engine. `work` is this node's folder for caches and outputs."""

    def __init__(self, engine: Engine, work: Path, cache: TaskCache, limits: Limits) -> None:
        self._engine = engine
        self._containers = Containers(engine)
        self._work = work
        self._cache = cache
        self._limits = limits

    def train(self, spec: TrainingSpec, place: Place, news: News) -> Ran | TrainingOutcome:
        """Start the attempt's container, or take over the one that is there, and watch it until it is gone.

        An outcome where the attempt was ended before, or its image cannot be started. Raises `PlatformFault`.
        """
        folder = AttemptFolder(self._work, spec)
        with folder.held():
            if ended := folder.outcome() or folder.note(Ran):
                return ended
            try:
                container = self._adopted(spec) or self._started(spec, place, folder)
            except MinerFault as fault:
                return folder.write_outcome(Failed(blame=Blame.MINER, kind=fault.kind, reason=fault.message))
            begun = self._begun(container, folder)
        news.running(container.labels.gpus, container.image_id)
        watched = self._watched(spec, container, begun, news)
        with folder.held():
            return self._gone(spec, container, begun, watched, folder)

    def release(self, spec: TrainingSpec) -> str:
        """How it is known that nothing runs of an attempt on this node, nor ever will. Raises `PlatformFault`."""
        folder = AttemptFolder(self._work, spec)
        with folder.held():
            found = self._containers.ours(attempt=spec.attempt_id)
            if not folder.path.exists():
                folder.begin()
            reason = (
                "it was released, and its container ended with it" if found else "it was released before it started"
            )
            folder.write_outcome(Failed(blame=Blame.PLATFORM, kind="released", reason=reason))
            for container in found:
                self._end(container)
            self._disk(folder).release()
        return "its container is gone" if found else "it has no container, and will not have one"

    # --- starting

    def _adopted(self, spec: TrainingSpec) -> Container | None:
        """The container of this very attempt, running or ended; what is left of earlier ones is removed."""
        adopted = None
        for container in self._containers.ours(task=spec.task_id, hotkey=spec.hotkey):
            if container.labels.attempt == spec.attempt_id and container.status != "created":
                adopted = container
            elif container.labels.epoch <= spec.epoch:
                self._end(container)
        return adopted

    def _started(self, spec: TrainingSpec, place: Place, folder: AttemptFolder) -> Container:
        if not self._cache.has(spec):
            raise InputsMissing(f"the data of task {spec.task_id} is not staged on this node any more")
        disk = self._disk(folder)
        disk.release()
        folder.begin()
        output = disk.prepare()
        container_id = self._created(spec, place, output)
        try:
            self._containers.start(container_id)
        except APIError as error:
            self._containers.remove(container_id)
            disk.release()
            raise not_started(str(error.explanation)) from error
        except (DockerException, RequestException, OSError) as error:
            raise EngineDown(f"the engine went away while it started {spec.hotkey}'s container: {error}") from error
        container = self._containers.inspect(container_id)
        if container is None:
            raise EngineDown(f"{spec.hotkey}'s container vanished as it started")
        return container

    def _created(self, spec: TrainingSpec, place: Place, output: Path) -> str:
        """A container with GPUs of its own: made under the node's lock, since its labels are what holds them."""
        strict = self._is_strict(spec)
        mounts = Mounts(self._cache.folder(spec), output, write_etc(self._work / "etc"))
        with node_lock(self._work):
            labels = self._labels(spec, place)
            facts, limits = self._engine.facts, self._limits
            return self._containers.create(run_options(spec, facts, limits, spec.image_id, strict, labels, mounts))

    def _labels(self, spec: TrainingSpec, place: Place) -> OurLabels:
        """With GPUs that nobody has; raises `EngineDown` where not enough are free."""
        devices, gpu_type = self._limits.devices, spec.gpu_requirement.gpu_type
        holders = taken_by(self._containers.holding(), labels_of(spec, place.node, place.driver, ()), devices)
        holders |= GpuClaims(self._work, place.node, gpu_type, devices).holders()
        indices = choose(spec.gpu_requirement.gpus, place.gpus, place.indices, holders.keys(), holders)
        return labels_of(spec, place.node, place.driver, indices)

    def _is_strict(self, spec: TrainingSpec) -> bool:
        with translated(f"looking at {spec.hotkey}'s image"):
            try:
                return asks_for_strict(self._engine.client.images.get(spec.image_id).labels)
            except ImageNotFound:
                raise InputsMissing(f"the image of {spec.hotkey} is not staged on this node any more") from None

    def _begun(self, container: Container, folder: AttemptFolder) -> Begun:
        """When it started, on this machine's clock: as noted, or else as long ago as the engine says."""
        before = folder.note(Begun)
        if before and before.container_id == container.container_id and before.machine == this_machine():
            return before
        now = datetime.now(UTC)
        ago_s = max(0.0, (now - (container.started_at or now)).total_seconds())
        begun = Begun(container_id=container.container_id, machine=this_machine(), started_s=time.monotonic() - ago_s)
        folder.write_note(begun)
        return begun

    # --- watching

    def _watched(self, spec: TrainingSpec, container: Container, begun: Begun, news: News) -> Watched:
        last = ""
        disk = self._disk(AttemptFolder(self._work, spec))

        def look() -> Stopped | None:
            nonlocal last
            tail = self._containers.log_tail(container.container_id)
            if tail != last:
                last = tail
                news.said(tail)
            if disk.overfull():
                return Stopped.OUTPUT
            if self._containers.layer_bytes(container.container_id) > self._limits.layer_bytes:
                return Stopped.LAYER
            return None

        deadline = begun.started_s + spec.hours_to_complete * 3600
        with Feed(self._engine, container.container_id, container.started_at) as feed:
            return Watch(self._containers, container.container_id, deadline, look, self._limits).to_the_end(feed)

    def _gone(
        self, spec: TrainingSpec, container: Container, begun: Begun, watched: Watched, folder: AttemptFolder
    ) -> Ran | TrainingOutcome:
        """Note how it ended, then remove it: whoever finds no container finds the note."""
        if told := folder.outcome() or folder.note(Ran):
            self._end(container)
            return told
        last = watched.container
        if last is None:
            reason = "somebody on the node removed its container"
            return folder.write_outcome(Failed(blame=Blame.PLATFORM, kind="removed_by_hand", reason=reason))
        ran = self._ran(spec, last, begun, watched)
        folder.write_note(ran)
        self._end(last)
        return ran

    def _ran(self, spec: TrainingSpec, last: Container, begun: Begun, watched: Watched) -> Ran:
        tail = self._containers.log_tail(last.container_id)
        ending = Ending(
            exit_code=last.exit_code,
            oom_killed=last.oom_killed,
            stopped=watched.stopped,
            outsider=watched.outsider,
            outage=watched.outage,
            mem_bytes=effective(spec, self._engine.facts, self._limits).mem_bytes,
            layer_bytes=self._limits.layer_bytes,
            log_tail=tail,
            late_s=watched.late_s,
        )
        seconds = max(0.0, time.monotonic() - begun.started_s)
        if last.started_at and last.finished_at and last.finished_at >= last.started_at:
            seconds = min(seconds, (last.finished_at - last.started_at).total_seconds())
        failed = failure(ending)
        return Ran(
            epoch=spec.epoch,
            failed=failed.model_copy(update={"seconds": seconds, "log_tail": tail}) if failed else None,
            seconds=seconds,
            stopped_at_deadline=watched.stopped is Stopped.DEADLINE,
            log_tail=tail,
            exit_code=last.exit_code,
            oom_killed=last.oom_killed,
            held_to=self._held_to(spec),
            machine=self._machine(last),
            container_id=last.container_id,
            image_id=last.image_id,
            gpu_indices=last.labels.gpus,
            started_at=last.started_at,
            finished_at=last.finished_at,
        )

    def _held_to(self, spec: TrainingSpec) -> dict[str, int]:
        given = effective(spec, self._engine.facts, self._limits)
        bounds = {"mem_bytes": given.mem_bytes, "nano_cpus": given.nano_cpus, "shm_bytes": given.shm_bytes}
        return bounds | {"pids": self._limits.pids}

    def _machine(self, last: Container) -> dict[str, str]:
        facts = self._engine.facts
        engine = {"engine_version": facts.version, "api_version": facts.api_version}
        return engine | {"node": last.labels.node, "storage_driver": facts.storage_driver}

    # --- ending

    def _end(self, container: Container) -> None:
        """Stop it for certain, then remove it; raises `EngineDown` when it cannot be ended."""
        if container.runs:
            self._containers.stop(container.container_id, 0.0)
        self._containers.remove(container.container_id)

    def _disk(self, folder: AttemptFolder) -> OutputDisk:
        return disk_of(folder, self._limits)


@contextlib.contextmanager
def output_of(work: Path, spec: TrainingSpec, limits: Limits) -> Generator[Path]:
    """A context: the host's side of an attempt's checkpoints, read-only. Gone after it, unless that failed.

    To be entered only when the attempt's container is gone. Raises `StorageUnavailable` where they are not there.
    """
    disk = disk_of(AttemptFolder(work, spec), limits)
    if not disk.exists():
        raise StorageUnavailable(f"what attempt {spec.attempt_id} wrote is not on this node any more")
    point = disk.prepare()
    disk.seal()
    yield point
    disk.release()


def disk_of(folder: AttemptFolder, limits: Limits) -> OutputDisk:
    """Where an attempt's checkpoints lie, or are to lie."""
    return OutputDisk(folder.path / "output", limits.output_bytes, limits.output_inodes)
