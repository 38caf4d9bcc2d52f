"""Instruct tasks: the answer is learnt, word by word."""

import math

import batches
import torch

SHARE_OF_STEPS = 1.0
SHARE_OF_RATE = 1.0


def rows(entries: list[dict], kind: dict, encode, config: dict, end: int) -> list[batches.Row]:
    """The task's rows that are short enough: prompt and answer are tokenised apart, the answer ends the text."""
    limit = min(4096, math.ceil(config["max_position_embeddings"] / 2))
    made = []
    for entry in entries:
        prompt = encode(prompt_of(entry, kind))
        made.append(batches.Row([*prompt, *encode(str(entry[kind["field_output"]])), end], len(prompt)))
    return [row for row in made if len(row.tokens) <= limit]


def prompt_of(entry: dict, kind: dict) -> str:
    given = str(entry.get(kind.get("field_input") or "") or "")
    text = (
        (kind.get("format") or "{instruction} {input}") if given else (kind.get("no_input_format") or "{instruction}")
    )
    text = text.replace("{instruction}", str(entry[kind["field_instruction"]])).replace("{input}", given)
    system = str(entry.get(kind.get("field_system") or "") or "") or kind.get("system_prompt") or ""
    return (kind.get("system_format") or "{system}").replace("{system}", system) + text if system else text


class Objective:
    """Every row weighs the same, however long its answer is: that is how the task is scored."""

    def __init__(self, model, base, kind: dict, tokenizer, end: int, seed: int):
        self.model = model

    def loss(self, batch: list[batches.Row]):
        answers = torch.tensor([len(row.answer) for row in batch])
        return (-batches.summed(self.model, batch) / answers).mean()
