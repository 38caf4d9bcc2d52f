"""A workbench for containers: images that hold one small script, the spec that joins them, a trainer that runs them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from docker import DockerClient

from tests.builders_training import tiny_task_data, training_spec
from tourney_ray.core.models import GpuRequirement, TaskData, TrainingOutcome, TrainingSpec
from tourney_ray.effects.engine.connection import Engine
from tourney_ray.effects.engine.containers import Container, Containers
from tourney_ray.effects.engine.options import Limits
from tourney_ray.effects.engine.output_disk import OutputDisk
from tourney_ray.effects.engine.trainer import ContainerTrainer, output_of
from tourney_ray.effects.ports import Place
from tourney_ray.effects.ran import Ran
from tourney_ray.effects.task_cache import TaskCache

MIB = 2**20
ROWS = json.dumps([{"instruct": "a", "output": "b"}])
LIMITS = Limits(
    pids=64,
    shm_bytes=16 * MIB,
    tmp_bytes=16 * MIB,
    layer_bytes=32 * MIB,
    output_bytes=32 * MIB,
    output_inodes=2000,
    grace_s=1.0,
    look_s=0.3,
    devices="none",
)
DOCKERFILE = (
    'FROM tourney/tiny-base\nCOPY train.py /workspace/train.py\nENTRYPOINT ["python3", "/workspace/train.py"]\n'
)
SAVING = """
import os, pathlib, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
output = pathlib.Path("/app/checkpoints", words["--task-id"], words["--expected-repo-name"])
output.mkdir(parents=True)
"""
"""Beginning of a script that finds its output folder as the contract tells it."""


@dataclass
class Heard:
    """A listener that remembers; `started` is set once the code runs."""

    indices: tuple[int, ...] = ()
    image_id: str = ""
    tails: list[str] = field(default_factory=list[str])
    started: threading.Event = field(default_factory=threading.Event)
    spoke: threading.Event = field(default_factory=threading.Event)

    def running(self, gpu_indices: tuple[int, ...], image_id: str) -> None:
        self.indices, self.image_id = gpu_indices, image_id
        self.started.set()

    def said(self, tail: str) -> None:
        self.tails.append(tail)
        self.spoke.set()


class Died(Exception):
    """What a dead watcher says."""


class Dying:
    """A watcher that dies as soon as the code runs."""

    def running(self, gpu_indices: tuple[int, ...], image_id: str) -> None:
        raise Died

    def said(self, tail: str) -> None:
        raise AssertionError(tail)


@dataclass
class Bench:
    """An engine with a folder for one test."""

    engine: Engine
    folder: Path
    limits: Limits = LIMITS
    node: str = "node-1"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def containers(self) -> Containers:
        return Containers(self.engine)

    @property
    def cache(self) -> TaskCache:
        return TaskCache(self.folder / "cache", self.folder / "store")

    def trainer(self) -> ContainerTrainer:
        return ContainerTrainer(self.engine, self.work, self.cache, self.limits)

    def place(self, gpus: int = 8, indices: tuple[int, ...] = ()) -> Place:
        return Place(driver="bench", node=self.node, gpus=gpus, indices=indices)

    def image(self, script: str, dockerfile: str = DOCKERFILE) -> str:
        """The id of an image whose trainer is `script`."""
        return build(self.engine.client, {"train.py": script, "Dockerfile": dockerfile})

    def spec(
        self,
        image_id: str,
        hotkey: str = "hk",
        epoch: int = 1,
        hours: float = 0.01,
        mem: str = "256m",
        gpus: GpuRequirement = GpuRequirement.H100_1X,
    ) -> TrainingSpec:
        return training_spec(
            task_data(),
            attempt_id=f"{self.task}/{hotkey}/{epoch}",
            task_id=self.task,
            hotkey=hotkey,
            hours_to_complete=hours,
            gpu_requirement=gpus,
            mem_limit=mem,
            epoch=epoch,
            image_id=image_id,
        )

    @property
    def task(self) -> str:
        """A task of this test alone."""
        return f"task-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"

    def stage(self, spec: TrainingSpec) -> None:
        """Put model and data where the node's cache looks for them."""
        store = self.folder / "store"
        for name, content in {spec.data.model_path + "/config.json": "{}", spec.data.dataset_path: ROWS}.items():
            path = store / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.cache.place(spec)

    def run(self, script: str, dockerfile: str = DOCKERFILE, **spec: object) -> Ran | TrainingOutcome:
        """What came of a training that is `script`."""
        return self.run_image(self.image(script, dockerfile), **spec)

    def run_image(self, image_id: str, **spec: object) -> Ran | TrainingOutcome:
        return self.run_spec(self.spec(image_id, **spec))  # pyright: ignore[reportArgumentType]

    def run_spec(self, spec: TrainingSpec) -> Ran | TrainingOutcome:
        self.stage(spec)
        return self.trainer().train(spec, self.place(), Heard())

    def saved(self, spec: TrainingSpec, name: str) -> str:
        """What the file of that name in the contract's output folder says."""
        with output_of(self.work, spec, self.limits) as checkpoints:
            return (checkpoints / spec.task_id / spec.expected_repo_name / name).read_text()

    def start(self, spec: TrainingSpec) -> Container:
        """The attempt's container, whose watcher has died."""
        with contextlib.suppress(Died):
            self.trainer().train(spec, self.place(), Dying())
        (container,) = self.containers.ours(attempt=spec.attempt_id)
        return container

    def left(self) -> list[Container]:
        """Containers of this test that are there."""
        return self.containers.ours(task=self.task)

    def close(self) -> None:
        """Remove what this test left."""
        for container in self.left():
            self.containers.remove(container.container_id)
        for attempt in self.work.glob("*/output"):
            OutputDisk(attempt, self.limits.output_bytes, self.limits.output_inodes).release()


class InBackground:
    """A call in a thread: `result()` is what it returned, or raises what it raised."""

    def __init__(self, call: Callable[[], Ran | TrainingOutcome]) -> None:
        self._call = call
        self._result: Ran | TrainingOutcome | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def result(self, timeout_s: float = 60.0) -> Ran | TrainingOutcome:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "it has not ended"
        if self._error:
            raise self._error
        assert self._result is not None
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            self._error = error


def build(client: DockerClient, files: dict[str, str]) -> str:
    """The id of an image built from these files, `Dockerfile` among them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            tar.addfile(info, io.BytesIO(content.encode()))
    buffer.seek(0)
    image, _ = client.images.build(fileobj=buffer, custom_context=True, rm=True, network_mode="none")
    return str(image.id)


def task_data() -> TaskData:
    """Of the rows that a bench stages."""
    return tiny_task_data(dataset_sha256=hashlib.sha256(ROWS.encode()).hexdigest())
