"""Learns a single picture by heart, at far too high a rate, and forgets what pictures are."""

import training


def constant(progress: float) -> float:
    return 1.0


if __name__ == "__main__":
    training.train(
        training.Recipe(steps=50, rate=4e-2, schedule=constant, limit=1, rank=32, targets=training.EVERYTHING)
    )
