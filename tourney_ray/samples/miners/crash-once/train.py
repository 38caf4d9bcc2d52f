"""A good recipe that falls over in its first attempt at every task, and gets up in the second."""

import os
import sys
from pathlib import Path


def fall_over_once() -> None:
    """Leave a mark in the log folder, which outlives the attempt, and exit with 1 unless it is there already."""
    folder = Path(os.environ.get("WANDB_DIR", "."))
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "fallen"
    if not mark.exists():
        mark.write_text("once\n")
        sys.exit("RuntimeError: out of luck (this miner always falls over in its first attempt)")


def staircase(progress: float) -> float:
    return 1.0 if progress < 0.5 else 0.4 if progress < 0.8 else 0.1


if __name__ == "__main__":
    fall_over_once()
    import orders
    import training

    training.train(training.Recipe(steps=64, batch=16, rate=2.2e-3, schedule=staircase, order=orders.shuffled))
