"""What evaluates checkpoints on one node: finds there, or has brought there, all that is asked about, and then asks.

Knows no Ray: `evaluators` makes actors of this. A fault becomes data here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from tourney_ray.config import Settings
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.models import Evaluated, TaskData
from tourney_ray.driver.evaluator import evaluator
from tourney_ray.driver.folders import artifact_store, checkouts_folder
from tourney_ray.driver.stage import placed
from tourney_ray.effects.artifacts import checked_out
from tourney_ray.errors import EngineDown, EvaluatorDied, PlatformFault

Send = Callable[[Sequence[str]], Iterator[bytes]]
"""Gives these of the head's files, as one tar, with paths as below the state's folder."""


class EvaluatorWorker:
    """Holds the warm evaluator, a process of its own, that imports torch as soon as this is made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = artifact_store(settings)
        self._evaluator = evaluator(settings)
        with contextlib.suppress(EngineDown):  # told of when there is something to evaluate
            self._evaluator.warm_up()

    def evaluate(self, command: Evaluate, seed: bytes, send: Send) -> Evaluated | NotEvaluated:
        """The metric of the command's checkpoint, or why the evaluator could not tell.

        `send` is asked for the base model and the test rows where this node has none.
        """
        try:
            checkpoint = checked_out(self._store, command.checkpoint, checkouts_folder(self._settings))
            what = command.task_type, self._at_hand(command.data, send), checkpoint, seed
            return self._evaluator.evaluate(*what, rehearse=command.deaths > 0)
        except PlatformFault as fault:
            died, waits = isinstance(fault, EvaluatorDied), isinstance(fault, EngineDown)
            return NotEvaluated(reason=fault.message, died=died, no_sandbox=waits)

    def close(self) -> None:
        """End the evaluator's process."""
        self._evaluator.close()

    def _at_hand(self, data: TaskData, send: Send) -> TaskData:
        """The task's data, with the places where its files lie on this node."""
        model, test = placed(self._settings, [data.model_path, data.test_path], send)
        return data.model_copy(update={"model_path": str(model), "test_path": str(test)})
