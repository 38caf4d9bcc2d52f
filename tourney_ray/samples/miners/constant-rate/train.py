"""Every weight, one rate from the first step to the last."""

import orders
import training


def constant(progress: float) -> float:
    return 1.0


if __name__ == "__main__":
    training.train(training.Recipe(steps=64, batch=16, rate=1.2e-3, schedule=constant, order=orders.shuffled))
