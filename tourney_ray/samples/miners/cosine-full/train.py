"""Every weight, a short warm-up, then half a cosine down to nothing."""

import math

import orders
import training

WARM_UP = 0.1


def cosine(progress: float) -> float:
    if progress < WARM_UP:
        return (progress + 0.01) / (WARM_UP + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


if __name__ == "__main__":
    training.train(training.Recipe(steps=80, batch=16, rate=3e-3, schedule=cosine, order=orders.shuffled))
