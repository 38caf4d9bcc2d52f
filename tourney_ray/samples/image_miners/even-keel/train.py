"""Adapters of rank 8 beside the attention, at one rate from the first step to the last."""

import training


def constant(progress: float) -> float:
    return 1.0


if __name__ == "__main__":
    training.train(training.Recipe(steps=60, rate=4e-3, schedule=constant, names="kohya"))
