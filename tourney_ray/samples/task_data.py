"""Tasks for the demo: a tiny bundled language model and small data sets invented from a seed.

Guarantee: the same seed makes the same files; how they are split and where they lie is as for an operator's own data.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.core.rules import Range
from tourney_ray.effects.task_files import count_parameters, write_task
from tourney_ray.effects.task_rows import as_text, split
from tourney_ray.errors import PlatformFault
from tourney_ray.samples.image_tasks import SampleImageTasks
from tourney_ray.samples.sentence_tasks import MAKERS, make_task_rows

BASE_MODEL = Path(__file__).parent / "base"
MODEL_ID = "tourney/tiny-qwen2"
ROWS = {TaskType.INSTRUCT: 448, TaskType.DPO: 448, TaskType.GRPO: 320}
"""Of a data set, test rows included; a tenth of the rewarded ones are two batches of the evaluator."""


class SampleTasks:
    """The `TaskSource` of the demo; everything it makes lies under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def lacking(self, task_type: TaskType, model_range_b: Range) -> str:
        """What would be needed for such a task beyond what is bundled; empty when nothing is."""
        if task_type is TaskType.IMAGE:
            return ""
        low, high = model_range_b
        size = count_parameters(BASE_MODEL) / 1e9
        if not low <= size <= high:
            return f"a model of {low:g} to {high:g}·10⁹ parameters (the only one, {MODEL_ID}, has {size:.6f})"
        return "" if task_type in MAKERS else f"a data set of kind {task_type.value}"

    def prepare(self, task_id: str, task_type: TaskType, seed: bytes, model_range_b: Range) -> TaskData:
        """Data of a new task with the bundled model, of images with a tiny pipeline.

        Raises `PlatformFault` for a type that there are no sentences for, or a range (10⁹ parameters) that the only
        model lies outside of, `StorageUnavailable` when the disk fails.
        """
        if lack := self.lacking(task_type, model_range_b):
            raise PlatformFault(f"task {task_id}: the bundled samples lack {lack}", "name a catalogue of your own")
        if task_type is TaskType.IMAGE:
            return SampleImageTasks(self._root).prepare(task_id, seed)
        chosen = int.from_bytes(hashlib.sha256(b"rows|" + seed).digest(), "big")
        rows, kind = make_task_rows(task_type, chosen, ROWS[task_type])
        divided = split(as_text(rows, kind, "the sample sentences"), seed, "the sample sentences")
        return write_task(self._root, task_id, MODEL_ID, BASE_MODEL, divided, kind)
