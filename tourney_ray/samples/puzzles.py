"""Puzzles with answers that can be checked, from `reasoning-gym`, as a catalogue of data sets on the real model.

The same seed gives the same rows. Needs the extra `demo-real`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tourney_ray.core.models import TaskType
from tourney_ray.errors import ConfigError
from tourney_ray.samples.smollm2 import MODEL_ID

FAMILIES = ("chain_sum", "spell_backward", "letter_counting", "gcd", "basic_arithmetic")
"""Kinds of puzzles whose questions and answers are short."""

ROWS = {TaskType.INSTRUCT: 300, TaskType.DPO: 200, TaskType.GRPO: 60}
"""Of a data set. A tenth of them is tested, and an evaluation on a core of a CPU is to take a minute at most."""

ASKED = "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n"
"""A question as this model was taught to be asked."""

CLOSE = """\
def close_to_the_answer(completions, extra_data, **kwargs):
    import difflib

    pairs = zip(completions, extra_data)
    return [difflib.SequenceMatcher(None, text[:200].strip(), answer).ratio() for text, answer in pairs]
"""
HOLDS = """\
def holds_the_answer(completions, extra_data, **kwargs):
    words = [text.replace(".", " ").replace(",", " ").split() for text in completions]
    return [float(answer in said) for said, answer in zip(words, extra_data)]
"""

CATALOGUE = """\
# Written by `tourney demo --model smollm2`: a real model, and puzzles with answers that can be checked.
[[models]]
id = "{model_id}"
path = {model}

[[datasets]]
name = "puzzles and their answers"
path = "InstructTextTask.json"
kind = "InstructTextTask"
columns = {{ field_instruction = "question", field_output = "answer", no_input_format = {asked} }}

[[datasets]]
name = "right answers and wrong ones"
path = "DpoTask.json"
kind = "DpoTask"

[[datasets]]
name = "puzzles to be answered"
path = "GrpoTask.json"
kind = "GrpoTask"

[datasets.columns]
extra_column = "answer"

[[datasets.columns.reward_functions]]
reward_weight = 0.6
low = 0.0
high = 1.0
reward_func = '''
{close}'''

[[datasets.columns.reward_functions]]
reward_weight = 0.4
low = 0.0
high = 1.0
reward_func = '''
{holds}'''
"""


@dataclass(frozen=True)
class Puzzle:
    """A question with its answer, and another one that is wrong."""

    question: str
    answer: str
    wrong: str


def write_puzzles(folder: Path, model: Path, seed: int) -> Path:
    """The catalogue `folder/catalogue.toml`, with its data sets beside it; raises `ConfigError` without the package."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (kind, count) in enumerate(ROWS.items()):
        made = [_row(kind, puzzle) for puzzle in make_puzzles(seed * len(ROWS) + number, count)]
        (folder / f"{kind.value}.json").write_text(json.dumps(made, indent=0), encoding="utf-8")
    path = folder / "catalogue.toml"
    asked, where = json.dumps(ASKED), json.dumps(str(model))
    text = CATALOGUE.format(model_id=MODEL_ID, model=where, asked=asked, close=CLOSE, holds=HOLDS)
    path.write_text(text, encoding="utf-8")
    return path


def make_puzzles(seed: int, count: int) -> list[Puzzle]:
    """`count` different puzzles, a fifth from each family, in random order; raises `ConfigError`."""
    try:
        from reasoning_gym import create_dataset
    except ImportError as missing:
        raise ConfigError(f"puzzles need {missing.name}", "make demo-real installs what is missing") from missing
    chance = random.Random(seed)
    share = -(-count // len(FAMILIES))
    made = [
        puzzle
        for family in FAMILIES
        for puzzle in _puzzles(create_dataset(family, size=4 * share, seed=chance.randrange(2**31)), share)
    ]
    chance.shuffle(made)
    return made[:count]


def _puzzles(data: Any, count: int) -> list[Puzzle]:
    """The first `count` different ones of a family; wrong is an answer to another one, as its own scoring says."""
    entries = {entry["question"]: entry for entry in data}
    made = list(_with_wrong_answers(list(entries.values()), data))
    if len(made) < count:
        raise ConfigError(f"reasoning-gym made {len(made)} puzzles where {count} are needed", "try another seed")
    return made[:count]


def _with_wrong_answers(entries: list[Any], data: Any) -> Iterator[Puzzle]:
    answers = [str(entry["answer"]) for entry in entries]
    for at, entry in enumerate(entries):
        others = answers[at + 1 :] + answers[:at]
        wrong = next((other for other in others if data.score_answer(other, entry) < 1), None)
        if wrong is not None:
            yield Puzzle(str(entry["question"]), answers[at], wrong)


def _row(kind: TaskType, puzzle: Puzzle) -> dict[str, str]:
    if kind is TaskType.INSTRUCT:
        return {"question": puzzle.question, "answer": puzzle.answer}
    prompt = ASKED.format(instruction=puzzle.question)
    if kind is TaskType.GRPO:
        return {"prompt": prompt, "answer": puzzle.answer}
    return {"prompt": prompt, "chosen": puzzle.answer, "rejected": puzzle.wrong}
