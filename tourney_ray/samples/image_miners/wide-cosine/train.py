"""Adapters of rank 16 beside everything, a short warm-up, then half a cosine down to nothing."""

import math

import training

WARM_UP = 0.1


def cosine(progress: float) -> float:
    if progress < WARM_UP:
        return (progress + 0.01) / (WARM_UP + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


if __name__ == "__main__":
    training.train(training.Recipe(steps=70, rate=6e-3, schedule=cosine, rank=16, targets=training.EVERYTHING))
