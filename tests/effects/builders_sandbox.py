"""A sandbox for tests: a store with a task, sources that hold one small script, and the spec that joins them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders_training import tiny_task_data, training_spec
from tourney_ray.core.models import Trained, TrainingOutcome, TrainingSpec
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


@dataclass(frozen=True)
class Told:
    """The news of a training: calls `on_start` when its code runs."""

    on_start: Callable[[], object]

    def running(self, gpu_indices: tuple[int, ...], image_id: str) -> None:
        assert (gpu_indices, image_id) == ((), "")
        self.on_start()

    def said(self, tail: str) -> None:
        raise AssertionError(tail)


def _nothing() -> None:
    pass


nothing = Told(_nothing)
"""News for nobody."""


def _never() -> None:
    raise AssertionError("it started")


NEVER_STARTS = Told(_never)
"""News of a training that may not start."""


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
        return training_spec(
            tiny_task_data(),
            attempt_id=f"task-1/{self.hotkey}/{attempt}",
            tournament_id="tourn_1",
            hotkey=self.hotkey,
            tree_hash=folder_tree_hash(source),
            expected_repo_name="tournament-1-hk-a",
            hours_to_complete=hours,
            epoch=epoch,
        )

    def run(
        self,
        script: str,
        max_seconds: float | None = None,
        caps: OutputCaps | None = None,
        on_start: Callable[[], object] = _nothing,
    ) -> TrainingOutcome:
        """The outcome of a training that is `script`."""
        source = self.source(script)
        return self.trainer(max_seconds, caps).train(self.spec(source), source, Told(on_start))
