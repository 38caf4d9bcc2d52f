"""The first champion: a short, plain training at a constant rate, enough to be beaten by whoever tries."""

import orders
import training


def constant(progress: float) -> float:
    return 1.0


if __name__ == "__main__":
    training.train(
        training.Recipe(steps=24, batch=16, rate=4e-4, schedule=constant, order=orders.as_given, lora_rank=0)
    )
