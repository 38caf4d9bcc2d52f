"""The evaluator's sandboxed process, with hostile checkpoints put before it one after the other."""

from __future__ import annotations

import contextlib
import hashlib
import math
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from tests.builders_training import tiny_task_data
from tests.evaluation.spoiling import NOT_TUNED, Hostile, canary_of
from tourney_ray.core.dataset_types import InstructDatasetType
from tourney_ray.core.models import Evaluated, TaskData, TaskType
from tourney_ray.driver.evaluator import SandboxedEvaluator
from tourney_ray.effects.evaluator_sandbox import Reading

FILES = Path(__file__).parents[1] / "fixtures" / "evaluation"
ROWS = "data/instruct_test.json"
MEM_BYTES = 512 * 2**20
"""An honest checkpoint of the tiny model takes 375 MiB, nearly all of it torch's."""

WITHIN_S = 60.0
LONGEST = 500
"""Characters of a refusal."""


@dataclass
class Court:
    """The sandboxed evaluator with a folder of checkpoints that are put before it."""

    evaluator: SandboxedEvaluator
    folder: Path
    judged: int = 0

    def evaluated(self, hostile: Hostile) -> Evaluated:
        """What the evaluator says of it; the test fails when it died, or ran what it was to read."""
        self.judged += 1
        checkpoint = self.folder / f"{self.judged}"
        shutil.copytree(FILES / hostile.start, checkpoint)
        hostile.spoil(checkpoint)
        process = self.evaluator._process
        try:
            result = self.evaluator.evaluate(TaskType.INSTRUCT, task(), checkpoint, bytes(32))
        finally:
            shutil.rmtree(checkpoint)
        assert process in (None, self.evaluator._process), "it died"
        assert not canary_of(checkpoint).exists()
        return result

    def convict(self, hostile: Hostile) -> None:
        """It is refused with its words, in one plain line; or measured, and marked as not fine-tuned."""
        result = self.evaluated(hostile)
        if hostile.words == NOT_TUNED:
            assert result.refused == ""
            assert not result.fine_tuned
            assert math.isfinite(result.value)
            return
        assert hostile.words in result.refused
        assert result.refused.isprintable()
        assert len(result.refused) < LONGEST
        assert not result.fine_tuned


@contextlib.contextmanager
def court_in(folder: Path) -> Generator[Court]:
    """A context: a court with as much memory as an honest checkpoint needs, and a third more."""
    folder.mkdir()
    with SandboxedEvaluator(FILES, Reading((FILES, folder), (), MEM_BYTES), WITHIN_S, isolated=True) as evaluator:
        yield Court(evaluator, folder)


def task() -> TaskData:
    """The fixtures' Instruct task, on its first rows."""
    return tiny_task_data(
        model_path="base",
        test_path=ROWS,
        test_sha256=hashlib.sha256((FILES / ROWS).read_bytes()).hexdigest(),
        test_rows=60,
        dataset_type=InstructDatasetType(field_instruction="instruct", field_input="input", field_output="output"),
    )
