"""What a container costs around the training in it, on this machine's engine.

Each training is one that does nothing, in the tiny base image, with the options that every training gets:

- one at a time: from "start it" to "it is gone", watched as in a tournament
- eight at once: the same, all of them together
- around it: that time less what the engine says the container ran, that is how long GPUs are leased and not used

Compared with: one such container by `docker run --rm`, without any of our options, in the same run.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median

from lab.ratios import Row, parser, show

from tourney_ray.core.models import GpuRequirement, TaskData, TaskType, TrainingSpec
from tourney_ray.effects.engine.connection import Engine, connect, translated
from tourney_ray.effects.engine.options import Limits
from tourney_ray.effects.engine.trainer import ContainerTrainer, output_of
from tourney_ray.effects.ports import Place
from tourney_ray.effects.ran import Ran
from tourney_ray.effects.task_cache import TaskCache
from tourney_ray.errors import TourneyError
from tourney_ray.samples.base_image import ensure_base_image

BASELINE = "docker run --rm"
AT_ONCE = 8
LIMITS = Limits(devices="none", output_bytes=64 * 2**20, output_inodes=1000)


class Silent:
    """Nobody who wants to know."""

    def running(self, gpu_indices: tuple[int, ...], image_id: str) -> None:
        """Say nothing."""

    def said(self, tail: str) -> None:
        """Say nothing."""


def main() -> None:
    """Print the ratios."""
    arguments = parser(__doc__)
    arguments.add_argument("--host", default="", help="the engine; default: DOCKER_HOST, else the usual socket")
    given = arguments.parse_args()
    try:
        rows = _measured_on(given.host, 2 if given.quick else 9)
    except TourneyError as error:
        raise SystemExit(f"error: {error.message}\nhint: {error.hint}") from error
    show("containers", rows, given.json)


def _measured_on(host: str, turns: int) -> list[Row]:
    """The rows, on that engine, of an image that does nothing."""
    with closing(connect(host)) as engine, tempfile.TemporaryDirectory(prefix="tourney-bench-") as folder:
        base = ensure_base_image(engine, tiny=True)
        dockerfile = f'FROM {base.name}\nENTRYPOINT ["true"]\n'.encode()
        with translated("building an image that does nothing"):
            image, _ = engine.client.images.build(fileobj=io.BytesIO(dockerfile), rm=True, network_mode="none")
        return measured(engine, str(image.id), Path(folder), turns)


def measured(engine: Engine, image_id: str, folder: Path, turns: int) -> list[Row]:
    """The rows, of so many repetitions."""
    lab = _Lab(engine, image_id, folder)
    plain = _times(turns, lambda _: lab.plain())
    ran: list[Ran] = []
    one = _times(turns, lambda turn: ran.append(lab.train(f"one-{turn}")))
    around = [whole - each.seconds for whole, each in zip(one, ran, strict=True)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        names = [[f"all-{turn}-{i}" for i in range(AT_ONCE)] for turn in range(turns)]
        together = _times(turns, lambda turn: list(pool.map(lab.train, names[turn])))
    times = {"one at a time": median(one), "around it": median(around), "eight at once": median(together)}
    baselines = {BASELINE: median(plain), "one at a time": median(one)}
    return [
        Row(what, {name: max(seconds, 1e-6) / base for name, base in baselines.items()}, turns, seconds * 1000)
        for what, seconds in times.items()
    ]


class _Lab:
    """A trainer with a task that is staged."""

    def __init__(self, engine: Engine, image_id: str, folder: Path) -> None:
        self._engine = engine
        self._image_id = image_id
        self._work = folder / "work"
        store = folder / "store"
        (store / "model").mkdir(parents=True)
        (store / "rows.json").write_text("[]")
        cache = TaskCache(folder / "cache", store)
        self._trainer = ContainerTrainer(engine, self._work, cache, LIMITS)
        cache.place(self._spec("any"))

    def train(self, hotkey: str) -> Ran:
        """One training that does nothing."""
        spec = self._spec(hotkey)
        ran = self._trainer.train(spec, Place(driver="bench", node="here", gpus=64), Silent())
        with output_of(self._work, spec, LIMITS):
            pass
        if not isinstance(ran, Ran):
            raise SystemExit(f"it did not run: {ran}")
        return ran

    def plain(self) -> None:
        """One container with the engine's own options."""
        command = [
            "docker",
            "--host",
            self._engine.host,
            "run",
            "--rm",
            "--network=none",
            self._image_id,
            "python3",
            "-c",
            "",
        ]
        subprocess.run(command, check=True, capture_output=True)

    def _spec(self, hotkey: str) -> TrainingSpec:
        return TrainingSpec(
            attempt_id=f"task/{hotkey}/1",
            tournament_id="bench",
            task_id="task",
            task_type=TaskType.INSTRUCT,
            hotkey=hotkey,
            repo="https://example.invalid/a",
            commit="a" * 40,
            tree_hash="b" * 40,
            expected_repo_name=hotkey,
            data=_DATA,
            hours_to_complete=1.0,
            gpu_requirement=GpuRequirement.H100_1X,
            mem_limit="1g",
            nano_cpus=8_000_000_000,
            epoch=1,
            image_id=self._image_id,
        )


_DATA = TaskData(
    model_id="org/none",
    model_params=1,
    model_path="model",
    dataset_path="rows.json",
    dataset_sha256="4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
    dataset_rows=1,
    test_path="none",
    test_sha256="0" * 64,
    test_rows=1,
    sequence_len=1,
)


def _times(turns: int, call: Callable[[int], object]) -> list[float]:
    """Seconds of each turn."""
    seconds: list[float] = []
    for turn in range(turns):
        began = time.perf_counter()
        call(turn)
        seconds.append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()
