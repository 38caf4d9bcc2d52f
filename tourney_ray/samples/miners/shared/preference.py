"""DPO tasks: of two answers to a prompt, the chosen one gains on the rejected one, measured from the base model."""

from dataclasses import dataclass

import batches
import torch
from torch.nn import functional

BETA = 0.1
LONGEST_PROMPT, LONGEST_PAIR = 512, 1024
SHARE_OF_STEPS = 0.5
SHARE_OF_RATE = 0.3
"""Of the recipe's steps and learning rate: two answers cost twice as much, and preferences are learnt gently."""


@dataclass
class Pair:
    chosen: batches.Row
    rejected: batches.Row
    reference: float | None = None
    """By how much the base model prefers the chosen answer, nats; None until it was asked."""

    @property
    def tokens(self) -> list[int]:
        return max(self.chosen.tokens, self.rejected.tokens, key=len)


def rows(entries: list[dict], kind: dict, encode, config: dict, end: int) -> list[Pair]:
    """The task's pairs that are short enough; each answer ends the text."""
    pairs = []
    for entry in entries:
        prompt = encode(entry[kind["field_prompt"]])[-LONGEST_PROMPT:]
        answers = [[*encode(entry[kind[name]]), end] for name in ("field_chosen", "field_rejected")]
        pairs.append(Pair(*(batches.Row([*prompt, *answer], len(prompt)) for answer in answers)))
    return [pair for pair in pairs if len(pair.tokens) <= LONGEST_PAIR]


class Objective:
    def __init__(self, model, base, kind: dict, tokenizer, end: int, seed: int):
        self.model, self.base = model, base

    def loss(self, batch: list[Pair]):
        new = [pair for pair in batch if pair.reference is None]
        if new:
            with torch.no_grad():
                for pair, value in zip(new, self.preferences(self.base, new).tolist(), strict=True):
                    pair.reference = value
        reference = torch.tensor([pair.reference for pair in batch])
        return -functional.logsigmoid(BETA * (self.preferences(self.model, batch) - reference)).mean()

    def preferences(self, model, batch: list[Pair]):
        """Shape (pairs,): how much likelier each chosen answer is than its rejected one, nats."""
        both = batches.summed(model, [pair.chosen for pair in batch] + [pair.rejected for pair in batch])
        return both[: len(batch)] - both[len(batch) :]
