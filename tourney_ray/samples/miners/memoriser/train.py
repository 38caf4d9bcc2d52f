"""Learns a dozen rows by heart, and nothing else: its own loss vanishes, everybody else's sentences stay strange."""

import orders
import training


def constant(progress: float) -> float:
    return 1.0


if __name__ == "__main__":
    training.train(
        training.Recipe(steps=80, batch=12, rate=3e-3, schedule=constant, order=orders.as_given, row_limit=12)
    )
