"""Saves what it has every fifteen steps under another number, and never says which is the last."""

import training


def linear(progress: float) -> float:
    return 1 - progress


if __name__ == "__main__":
    training.train(training.Recipe(steps=60, rate=5e-3, schedule=linear, stages=15, targets=training.EVERYTHING))
