"""The outside worlds, as the driver sees them: one Protocol each, with a real thing and a fake behind it.

An effect raises `MinerFault` or `PlatformFault`; anything else it raises is a defect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from tourney_ray.core.models import Evaluated, Miner, TaskData, TaskType, TournamentType, TrainingOutcome, TrainingSpec


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> datetime:
        """The current moment, aware, UTC."""
        ...


class MinerRegistry(Protocol):
    """Who may enter."""

    def miners(self) -> Sequence[Miner]:
        """All registered miners, in a stable order."""
        ...


class TaskSource(Protocol):
    """Models and data sets, made into tasks."""

    def lacking(self, task_type: TaskType, model_range_b: tuple[float, float]) -> str:
        """What it would need to make such a task (range in 10⁹ parameters); empty when it has all."""
        ...

    def prepare(self, task_id: str, task_type: TaskType, seed: bytes, model_range_b: tuple[float, float]) -> TaskData:
        """Data of a new task, split into train and test by `seed`, with a model in the range (10⁹ parameters)."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt runs."""

    driver: str
    """Name of the driver that it runs for."""
    node: str
    gpus: int
    """All of the node's, of the training's type."""
    indices: tuple[int, ...] = ()
    """Those that Ray gave to the watcher."""


class News(Protocol):
    """Who wants to know how a training goes on; told, never waited for."""

    def running(self, gpu_indices: tuple[int, ...], image_id: str) -> None:
        """Its code runs, on these GPUs of its node, from that image; both empty where there are none."""
        ...

    def said(self, tail: str) -> None:
        """The end of its log, printable."""
        ...


class Trainer(Protocol):
    """Runs one attempt of a stranger's training code."""

    def train(self, spec: TrainingSpec, source: Path, news: News) -> TrainingOutcome:
        """Run the repository tree at `source` to its end or its deadline and collect its output.

        Returns a miner's failure as `Failed`; raises `PlatformFault` for ours.
        """
        ...


class Evaluator(Protocol):
    """Computes the metric of one checkpoint."""

    def evaluate(self, task_type: TaskType, data: TaskData, checkpoint: Path, seed: bytes) -> Evaluated:
        """The metric of `checkpoint` on the task's test rows; raises `PlatformFault` when it cannot tell."""
        ...


class Publisher(Protocol):
    """Publishes a winner's repository."""

    def publish(self, tournament_type: TournamentType, tournament_id: str, position: int, source: Path) -> str:
        """Push the tree at `source` as the winner of that position; the pushed commit."""
        ...
