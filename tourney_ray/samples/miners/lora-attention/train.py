"""Thin adapters beside the attention only."""

import orders
import training

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def linear(progress: float) -> float:
    return 1 - progress


if __name__ == "__main__":
    training.train(
        training.Recipe(
            steps=70, batch=16, rate=7e-3, schedule=linear, order=orders.shuffled, lora_rank=8, lora_targets=ATTENTION
        )
    )
