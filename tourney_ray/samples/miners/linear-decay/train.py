"""Every weight, straight up for a fifth of the way, straight down for the rest."""

import orders
import training


def triangle(progress: float) -> float:
    return (progress + 0.02) / 0.2 if progress < 0.18 else (1 - progress) / 0.82


if __name__ == "__main__":
    training.train(
        training.Recipe(steps=70, batch=16, rate=2e-3, schedule=triangle, order=orders.shuffled, weight_decay=0.01)
    )
