"""Orders in which a training can see its rows: endless batches of a size."""

import random


def shuffled(rows, size, chance: random.Random):
    """A new random order in every pass; rows of like length share a batch, so that little is padding."""
    while True:
        passed = rows[:]
        chance.shuffle(passed)
        batches = [sorted(passed[at : at + size * 4], key=length) for at in range(0, len(passed), size * 4)]
        cut = [pool[at : at + size] for pool in batches for at in range(0, len(pool), size)]
        chance.shuffle(cut)
        yield from cut


def short_first(rows, size, chance: random.Random):
    """Every pass goes from the shortest rows to the longest."""
    while True:
        passed = sorted(rows, key=length)
        for at in range(0, len(passed), size):
            yield passed[at : at + size]


def as_given(rows, size, chance: random.Random):
    """The order of the file, over and over."""
    while True:
        for at in range(0, len(rows), size):
            yield rows[at : at + size]


def length(row) -> int:
    return len(row.tokens)
