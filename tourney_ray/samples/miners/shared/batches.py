"""Rows as tokens, and many of them as the tensors of one batch."""

from dataclasses import dataclass

import torch


@dataclass
class Row:
    """One tokenised example: the prompt is read, the answer is learnt."""

    tokens: list[int]
    prompt: int

    @property
    def answer(self) -> list[int]:
        return self.tokens[self.prompt :]


def collate(batch: list[Row]):
    """Tensors of a batch: tokens (rows, length), the learnt positions, and for each of those its label and its row."""
    length = max(len(row.tokens) for row in batch) - 1
    tokens = torch.zeros(len(batch), length, dtype=torch.long)
    wanted = torch.zeros(len(batch), length, dtype=torch.bool)
    labels, rows = [], []
    for index, row in enumerate(batch):
        tokens[index, : len(row.tokens) - 1] = torch.tensor(row.tokens[:-1])
        wanted[index, row.prompt - 1 : len(row.tokens) - 1] = True
        labels += row.answer
        rows += [index] * len(row.answer)
    return tokens, wanted, torch.tensor(labels), torch.tensor(rows)


def summed(model, batch: list[Row]):
    """Shape (rows,): log-probability of each row's whole answer."""
    tokens, wanted, labels, rows = collate(batch)
    each = -torch.nn.functional.cross_entropy(model(tokens, wanted), labels, reduction="none")
    return torch.zeros(len(batch)).index_add(0, rows, each)
