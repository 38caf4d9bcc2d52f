"""A sandbox for tests: a store with a task, sources that hold one small script, and the spec that joins them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tourney_ray.core.models import GpuRequirement, TaskData, TaskType, Trained, TrainingOutcome, TrainingSpec
from tourney_ray.effects.artifacts import ArtifactStore, checked_out
from tourney_ray.effects.collect import OutputCaps
from tourney_ray.effects.sandbox import Kind, SandboxTrainer
from tourney_ray.effects.tree import folder_tree_hash

DOCKERFILE = 'FROM scratch\nCOPY . /workspace\nENTRYPOINT ["python3", "/workspace/train.py"]\n'
SAVING = """
import os, pathlib, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
cache = pathlib.Path(os.environ["TOURNEY_CACHE"])
checkpoints = pathlib.Path(os.environ["TOURNEY_CHECKPOINTS"])
output = checkpoints / words["--task-id"] / words["--expected-repo-name"]
output.mkdir(parents=True)
"""
"""Beginning of a script that finds its folders as the contract tells it."""


def nothing() -> None:
    """An `on_start` that does nothing."""


@dataclass
class World:
    """A store, a scratch folder and the sources written so far."""

    folder: Path
    kind: Kind = "process"
    trees: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        for name, content in {
            "models/org--tiny/config.json": "{}",
            "datasets/task-1_train_data.json": json.dumps([{"instruct": "a", "output": "b"}]),
            "datasets/task-2_train_data.json": "[]",
            "tests/task-1_test.json": "[]",
        }.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    @property
    def hotkey(self) -> str:
        """A miner of this test alone, so that its processes can be told from those of any other run."""
        return f"hk-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]}"

    @property
    def root(self) -> Path:
        return self.folder / "store"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.root / "artifacts"))

    def checkpoint(self, outcome: TrainingOutcome) -> Path:
        """The folder that a training left."""
        assert isinstance(outcome, Trained), outcome
        return checked_out(self.store, outcome.checkpoint, self.folder / "checkouts")

    def trainer(self, max_seconds: float | None = None, caps: OutputCaps | None = None) -> SandboxTrainer:
        return SandboxTrainer(self.root, self.work, frozenset(self.trees), self.kind, max_seconds, caps)

    def source(self, script: str, name: str = "source", dockerfile: str = DOCKERFILE) -> Path:
        """A repository's tree whose trainer is `script`, on the list of those that may run."""
        folder = self.folder / name
        (folder / "dockerfiles").mkdir(parents=True)
        (folder / "dockerfiles" / "standalone-text-trainer.dockerfile").write_text(dockerfile)
        (folder / "train.py").write_text(script)
        self.trees.add(folder_tree_hash(folder))
        return folder

    def spec(self, source: Path, attempt: int = 1, epoch: int = 1, hours: float = 0.01) -> TrainingSpec:
        return TrainingSpec(
            attempt_id=f"task-1/{self.hotkey}/{attempt}",
            tournament_id="tourn_1",
            task_id="task-1",
            task_type=TaskType.INSTRUCT,
            hotkey=self.hotkey,
            repo="https://example.invalid/a",
            commit="a" * 40,
            tree_hash=folder_tree_hash(source),
            expected_repo_name="tournament-1-hk-a",
            data=task_data(),
            hours_to_complete=hours,
            gpu_requirement=GpuRequirement.H100_1X,
            mem_limit="24g",
            nano_cpus=8_000_000_000,
            epoch=epoch,
        )

    def run(
        self,
        script: str,
        max_seconds: float | None = None,
        caps: OutputCaps | None = None,
        on_start: Callable[[], None] = nothing,
    ) -> TrainingOutcome:
        """The outcome of a training that is `script`."""
        source = self.source(script)
        return self.trainer(max_seconds, caps).train(self.spec(source), source, on_start)


def task_data() -> TaskData:
    return TaskData(
        model_id="org/tiny",
        model_params=1000,
        model_path="models/org--tiny",
        dataset_path="datasets/task-1_train_data.json",
        dataset_sha256="0" * 64,
        dataset_rows=1,
        test_path="tests/task-1_test.json",
        test_sha256="0" * 64,
        test_rows=1,
        sequence_len=256,
    )
