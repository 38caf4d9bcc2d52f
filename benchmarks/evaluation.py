"""What the warm, sandboxed evaluator saves, and that it does not grow.

Measured: 16 submissions of one task, full checkpoints and LoRA adapters in turn, through one sandboxed process as the
tournament's actor has it, from its start to its end; and its memory after 100 submissions. The tiny model and the 60
rows of tests/fixtures/evaluation.

Compared with: as many `tourney evaluate` of the same checkpoints, each in a sandboxed process of its own; and the
memory after 10 submissions. The model is tiny, so nearly all of a cold process is start-up; a larger model spends more
on the rows themselves, which both pay alike, and the ratio comes nearer to 1. Exits with 1 where the time is above a
fifth, or the memory grew by a twentieth.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

from lab.ratios import Row, parser, show, timed

from tourney_ray.core.dataset_types import InstructDatasetType
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.driver.evaluator import SandboxedEvaluator
from tourney_ray.effects import bubblewrap
from tourney_ray.effects.evaluator_sandbox import Reading

FILES = Path(__file__).parents[1] / "tests" / "fixtures" / "evaluation"
BASE = "base"
ROWS = "data/instruct_test.json"
COLUMNS = InstructDatasetType(field_instruction="instruct", field_input="input", field_output="output")
TOKENS = 256
CHECKPOINTS = ("instruct_full", "instruct_lora")
SEED = bytes(32)
MEM_BYTES = 2 * 2**30
WITHIN_S = 600.0
MOST_TIME = 1 / 5
MOST_GROWTH = 1.05
BASELINE = "its baseline"


def main() -> None:
    """Print the ratios."""
    arguments = parser(__doc__).parse_args()
    submissions, few, many = (2, 2, 4) if arguments.quick else (16, 10, 100)
    rows = [time_of(submissions), growth(few, many)]
    show("evaluation", rows, arguments.json)
    most = (MOST_TIME, MOST_GROWTH)
    if not arguments.quick and any(row.ratios[BASELINE] > limit for row, limit in zip(rows, most, strict=True)):
        sys.exit(1)


def time_of(submissions: int) -> Row:
    """The row of that many submissions through one process, by as many processes."""
    names = list(islice(cycle(CHECKPOINTS), submissions))
    warm_s, _ = timed(lambda: warm(names))
    cold_s, _ = timed(lambda: [cold(FILES / name) for name in names])
    return Row(f"{submissions} submissions, warm; {submissions} cold", {BASELINE: warm_s / cold_s}, submissions)


def growth(few: int, many: int) -> Row:
    """The row of the process's memory after many submissions, by that after a few."""
    with opened() as evaluator:
        sizes = [size_after(evaluator, name) for name in islice(cycle(CHECKPOINTS), many)]
    what = f"memory after {many} submissions; after {few}"
    return Row(what, {BASELINE: max(sizes[few:]) / max(sizes[:few])}, many)


def warm(names: list[str]) -> None:
    """All of these through one process, which starts and ends."""
    with opened() as evaluator:
        for name in names:
            evaluate(evaluator, name)


def opened() -> SandboxedEvaluator:
    """The evaluator, in bubblewrap where that works."""
    return SandboxedEvaluator(FILES, Reading((FILES,), (), MEM_BYTES), WITHIN_S, isolated=not bubblewrap.why_not())


def evaluate(evaluator: SandboxedEvaluator, name: str) -> None:
    """One submission; raises `RuntimeError` when it is refused."""
    if refused := evaluator.evaluate(TaskType.INSTRUCT, task_data(), FILES / name, SEED).refused:
        raise RuntimeError(refused)


def size_after(evaluator: SandboxedEvaluator, name: str) -> int:
    """Resident bytes of the evaluator's processes after one more submission."""
    evaluate(evaluator, name)
    return resident_below(evaluator.warm_up().pid)


def resident_below(pid: int) -> int:
    """Resident bytes of a process and all that descend from it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    pages = (int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in family)
    return sum(pages) * 4096


def cold(checkpoint: Path) -> None:
    """The baseline; raises `CalledProcessError` when the evaluation does not succeed."""
    command = [sys.executable, "-m", "tourney_ray", "evaluate", "--kind", "instruct", "--base", FILES / BASE]
    command += ["--checkpoint", checkpoint, "--rows", FILES / ROWS, "--dataset-type", COLUMNS.model_dump_json()]
    walls = ["--no-sandbox"] if bubblewrap.why_not() else []
    subprocess.run([*command, "--sequence-len", str(TOKENS), *walls], check=True, stdout=subprocess.DEVNULL)


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
