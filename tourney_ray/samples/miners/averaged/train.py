"""Heavy weight decay, tiny batches, and the mean of the weights over the last third of the way."""

import orders
import training


def constant(progress: float) -> float:
    return min(1.0, 10 * progress + 0.1)


if __name__ == "__main__":
    training.train(
        training.Recipe(
            steps=90,
            batch=8,
            rate=2e-3,
            schedule=constant,
            order=orders.shuffled,
            weight_decay=0.3,
            average_from=0.66,
        )
    )
