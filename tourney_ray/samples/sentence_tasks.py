"""The sentences as data sets of each kind: answers to learn, answers to prefer, and prompts whose answers are rewarded.

Pure: the same seed gives the same rows. Rewards rise bit by bit, and silence earns none.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tourney_ray.core.dataset_types import (
    DatasetType,
    DpoDatasetType,
    GrpoDatasetType,
    InstructDatasetType,
    RewardFunction,
)
from tourney_ray.core.models import TaskType
from tourney_ray.samples.sentences import Row, make_rows

COLUMNS = InstructDatasetType(field_instruction="instruct", field_input="input", field_output="output")
LETTERS = "aeinorst"
"""Common enough for the tiny model to say more of each."""

LETTER_SHARE = """\
def letter_share(completions, **kwargs):
    return [text.lower().count("{letter}") / max(1, len(text)) for text in completions]
"""
TWELVE_WORDS = """\
def twelve_words(completions, **kwargs):
    return [1 - min(1, abs(len(text.split()) - 12) / 12) for text in completions]
"""


def make_task_rows(task_type: TaskType, seed: int, count: int) -> tuple[list[Row], DatasetType]:
    """`count` different rows of a data set of that kind, and how they are read; raises `KeyError` for others."""
    return MAKERS[task_type](make_rows(seed, count), random.Random(seed))


def _instruct(rows: list[Row], chance: random.Random) -> tuple[list[Row], DatasetType]:
    return rows, COLUMNS


def _dpo(rows: list[Row], chance: random.Random) -> tuple[list[Row], DatasetType]:
    """Preferred is the right answer to somebody else's, or to itself in disorder."""
    spoilers = chance.sample(SPOILERS, 2)
    pairs: list[Row] = []
    for number, row in enumerate(rows):
        answer = row["output"]
        spoilt = spoilers[number % 2](answer, rows[number - 1]["output"], chance)
        rejected = _stammered(answer, "", chance) if spoilt == answer else spoilt
        pairs.append({"prompt": _prompt(row), "chosen": answer, "rejected": rejected})
    return pairs, DpoDatasetType()


def _grpo(rows: list[Row], chance: random.Random) -> tuple[list[Row], DatasetType]:
    letter = chance.choice(LETTERS)
    rewards = (
        RewardFunction(reward_func=LETTER_SHARE.format(letter=letter), reward_weight=0.5, low=0.0, high=0.4),
        RewardFunction(reward_func=TWELVE_WORDS, reward_weight=0.5, low=0.0, high=1.0),
    )
    return [{"prompt": _prompt(row)} for row in rows], GrpoDatasetType(reward_functions=rewards)


def _prompt(row: Row) -> str:
    return f"{row['instruct']} {row['input']}".rstrip() + " "


def _shuffled(answer: str, other: str, chance: random.Random) -> str:
    words = answer.split()
    return " ".join(chance.sample(words, len(words)))


def _stammered(answer: str, other: str, chance: random.Random) -> str:
    words = answer.split()
    at = chance.randrange(len(words))
    return " ".join([*words[: at + 1], *words[at:]])


def _foreign(answer: str, other: str, chance: random.Random) -> str:
    return other


SPOILERS: tuple[Callable[[str, str, random.Random], str], ...] = (_shuffled, _stammered, _foreign)

MAKERS: dict[TaskType, Callable[[list[Row], random.Random], tuple[list[Row], DatasetType]]] = {
    TaskType.INSTRUCT: _instruct,
    TaskType.DPO: _dpo,
    TaskType.GRPO: _grpo,
}
"""Which kinds there are, and how their rows come about."""
