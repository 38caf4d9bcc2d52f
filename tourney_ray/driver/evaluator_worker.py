"""What evaluates checkpoints on one node: finds there, or has brought there, all that is asked about, and then asks.

Knows no Ray: `evaluators` and `gpu_evaluators` make actors of this. A fault becomes data here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tourney_ray.config import Settings
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.models import Evaluated, TaskData
from tourney_ray.driver.evaluator import evaluator
from tourney_ray.driver.folders import artifact_store, checkouts_folder
from tourney_ray.driver.gpu_claims import Gpu, claim_gpu
from tourney_ray.driver.stage import placed
from tourney_ray.effects.artifacts import checked_out
from tourney_ray.effects.kept_elsewhere import have_objects
from tourney_ray.errors import EngineDown, EvaluatorDied, PlatformFault


class Sender(Protocol):
    """Gives what the head has, as one tar with paths as below the state's folder, or as objects of its store."""

    def files(self, paths: Sequence[str]) -> Iterator[bytes]:
        """These of its files."""
        ...

    def objects(self, record: str) -> Iterator[bytes]:
        """What the attempt with that record left."""
        ...


class EvaluatorWorker:
    """Holds the warm evaluator, a process of its own, that imports torch as soon as this is made.

    With a `gpu` it computes there, and holds it until this process ends.
    """

    def __init__(self, settings: Settings, gpu: Gpu | None = None) -> None:
        self._settings = settings
        self._store = artifact_store(settings)
        self._gpu = gpu
        """That is still to be claimed."""
        self._evaluator = evaluator(settings, on_gpu=gpu is not None)
        with contextlib.suppress(PlatformFault):  # told of when there is something to evaluate
            self._get_ready()

    def evaluate(self, command: Evaluate, seed: bytes, head: Sender) -> Evaluated | NotEvaluated:
        """The metric of the command's checkpoint, or why the evaluator could not tell.

        The head is asked for the base model, the test rows and the checkpoint, where this node has them not.
        """
        try:
            self._get_ready()
            what = command.task_type, self._at_hand(command.data, head), self._checkpoint(command, head), seed
            return self._evaluator.evaluate(*what, rehearse=command.deaths > 0)
        except PlatformFault as fault:
            died, waits = isinstance(fault, EvaluatorDied), isinstance(fault, EngineDown)
            return NotEvaluated(reason=fault.message, died=died, no_sandbox=waits)

    def close(self) -> None:
        """End the evaluator's process."""
        self._evaluator.close()

    def _get_ready(self) -> None:
        """Have a GPU of one's own, where one is wanted, and the process under way; raises `EngineDown`."""
        if self._gpu:
            claim_gpu(self._settings, self._gpu)
            self._gpu = None
        self._evaluator.warm_up()

    def _at_hand(self, data: TaskData, head: Sender) -> TaskData:
        """The task's data, with the places where its files lie on this node."""
        model, test = placed(self._settings, [data.model_path, data.test_path], head.files)
        return data.model_copy(update={"model_path": str(model), "test_path": str(test)})

    def _checkpoint(self, command: Evaluate, head: Sender) -> Path:
        if command.record:
            have_objects(self._store, command.record, lambda: head.objects(command.record))
        return checked_out(self._store, command.checkpoint, checkouts_folder(self._settings))
