"""A curriculum: every pass begins with the shortest rows and ends with the longest."""

import orders
import training


def gentle(progress: float) -> float:
    return 1.0 - 0.7 * progress


if __name__ == "__main__":
    training.train(training.Recipe(steps=72, batch=16, rate=1.6e-3, schedule=gentle, order=orders.short_first))
