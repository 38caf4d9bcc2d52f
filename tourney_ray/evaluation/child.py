"""The evaluator's process: answers questions on its standard input until that ends, warm from one to the next.

Run as `python -m tourney_ray.evaluation.child ROOT RULES DEVICE [WORD…]` in a sandbox. RULES are JSON, DEVICE is `cpu`
or `cuda`. With the WORDs before it a task's own program runs without network, unless the sandbox has none. Imports
torch first and then says one empty line. Only answers are written to what was its standard output; whatever a library
prints goes to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from tourney_ray.core.evaluations import MOST_WORDS, Device, Question, Reply, Trouble
from tourney_ray.core.rules import Rules
from tourney_ray.errors import PlatformFault
from tourney_ray.evaluation.worker import WarmEvaluator


def main(root: Path, rules: Rules, device: Device, launch: Sequence[str], questions: BinaryIO) -> None:
    """Answer every line of `questions`; what is no fault of the platform's ends the process."""
    answers = os.dup(1)
    os.dup2(2, 1)
    evaluator = WarmEvaluator(root, lambda program: [*launch, *program], rules, device)
    _say(answers, b"")
    for line in questions:
        reply = answer(evaluator, Question.model_validate_json(line))
        _say(answers, reply.model_dump_json().encode())


def answer(evaluator: WarmEvaluator, question: Question) -> Reply:
    """The evaluator's answer to one question."""
    try:
        result = evaluator.evaluate(
            question.task_type, question.data, Path(question.checkpoint), bytes.fromhex(question.seed)
        )
    except PlatformFault as fault:
        return Reply(number=question.number, trouble=_trouble(fault))
    return Reply(number=question.number, result=result)


def _trouble(fault: PlatformFault) -> Trouble:
    broke_off = isinstance(fault.__cause__, RuntimeError | MemoryError)
    message, hint = (text[:MOST_WORDS] for text in (fault.message, fault.hint))
    return Trouble(message=message, hint=hint, broke_off=broke_off)


def _say(descriptor: int, line: bytes) -> None:
    left = memoryview(line + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]


if __name__ == "__main__":
    device: Device = "cuda" if sys.argv[3] == "cuda" else "cpu"
    main(Path(sys.argv[1]), Rules.model_validate_json(sys.argv[2]), device, sys.argv[4:], sys.stdin.buffer)
