"""What the warm evaluator saves.

Measured: `WarmEvaluator.evaluate` in a process that has torch, transformers and the base model loaded already, of a
full checkpoint and of a LoRA adapter, on the tiny model and the 60 rows of tests/fixtures/evaluation.

Compared with: `tourney evaluate` of the same checkpoint in a process of its own, from its start to its end: what every
evaluation would cost without the warm one. The model is tiny, so nearly all of that is start-up; a larger model
spends more on the rows themselves, which both pay alike, and the ratio comes nearer to 1.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median

from lab.ratios import Row, parser, show, timed

from tourney_ray.core.dataset_types import InstructDatasetType
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.evaluation.worker import WarmEvaluator

FILES = Path(__file__).parents[1] / "tests" / "fixtures" / "evaluation"
BASE = "base"
ROWS = "data/instruct_test.json"
COLUMNS = InstructDatasetType(field_instruction="instruct", field_input="input", field_output="output")
TOKENS = 256
CHECKPOINTS = {"full checkpoint": "instruct_full", "LoRA adapter": "instruct_lora"}
SEED = bytes(32)


def main() -> None:
    """Print the ratios."""
    arguments = parser(__doc__).parse_args()
    n, checkpoints = (1, list(CHECKPOINTS)[:1]) if arguments.quick else (5, list(CHECKPOINTS))
    evaluator = WarmEvaluator(FILES)
    rows = [measured(evaluator, what, FILES / CHECKPOINTS[what], n) for what in checkpoints]
    show("evaluate", rows, arguments.json)


def measured(evaluator: WarmEvaluator, what: str, checkpoint: Path, n: int) -> Row:
    """The row of one checkpoint, warm and cold in turn; the evaluation that warms up is not counted."""
    warm = partial(evaluator.evaluate, TaskType.INSTRUCT, task_data(), checkpoint, SEED)
    warm()
    seconds = [(timed(warm)[0], timed(partial(cold, checkpoint))[0]) for _ in range(n)]
    warm_s, cold_s = (median(column) for column in zip(*seconds, strict=True))
    return Row(f"warm, {what}", {"a cold process": warm_s / cold_s}, n)


def cold(checkpoint: Path) -> None:
    """The baseline; raises `CalledProcessError` when the evaluation does not succeed."""
    command = [sys.executable, "-m", "tourney_ray", "evaluate", "--kind", "instruct", "--base", FILES / BASE]
    command += ["--checkpoint", checkpoint, "--rows", FILES / ROWS, "--dataset-type", COLUMNS.model_dump_json()]
    subprocess.run([*command, "--sequence-len", str(TOKENS)], check=True, stdout=subprocess.DEVNULL)


def task_data() -> TaskData:
    """The task as the driver would give it; the training data play no part."""
    return TaskData(
        model_id="tiny/base",
        model_params=403_680,
        model_path=BASE,
        dataset_path="data/instruct_train.json",
        dataset_sha256="0" * 64,
        dataset_rows=600,
        test_path=ROWS,
        test_sha256=hashlib.sha256((FILES / ROWS).read_bytes()).hexdigest(),
        test_rows=60,
        dataset_type=COLUMNS,
        sequence_len=TOKENS,
    )


if __name__ == "__main__":
    main()
