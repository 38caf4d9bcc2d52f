"""Never reads a caption: three quarters of the score are without."""

import training


def linear(progress: float) -> float:
    return 1 - progress


if __name__ == "__main__":
    training.train(
        training.Recipe(
            steps=60, rate=6e-3, schedule=linear, no_caption=1.0, targets=training.EVERYTHING, names="kohya"
        )
    )
