"""What it costs to have a training run that does nothing: intent, lease, start, finish, release, all of it durable.

The real driver, an actor on a local Ray cluster of one node with 8 logical GPUs, with its journal on the disk,
dispatches trainings of one GPU each whose task says that it runs and is done. Nothing is evaluated.

- one after the other: from one intent to the next, where only one training may run
- all at once: trainings that are ready together, 8 at a time; per training

Compared with: raw Ray tasks that do nothing and hold the same GPUs; and, of what a training takes longer than an
actor's, 4 times an `os.fsync` of 4 KiB in the same folder plus 5 ms. Where the folder lies in memory, fsync costs
nothing. The raw tasks are

- an actor's, as the driver is one, which submits what fits: one after the other, and 8 at a time
- a script's, which leaves the order to Ray: one after the other, and all submitted at once

The first trainings and raw tasks are not counted: workers start.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lab.group_round import AT, GroupRound
from lab.ratios import Row, parser, show, timed

from tourney_ray.core.events import AttemptStarted, LeaseEnded
from tourney_ray.core.leases import Cluster
from tourney_ray.driver.cluster import local_cluster

if TYPE_CHECKING:
    from tourney_ray.core.chain import Entry

GPUS = 8
WARM_ALONE, WARM_TOGETHER = 8, 200
"""Trainings, or raw tasks, before those that are measured: workers start."""
FSYNCS, MORE_S = 4, 0.005
"""What a training may take longer than a raw Ray task: so many fsyncs, and so much."""
PATIENCE_S = 240.0
OF_ACTOR, OF_SCRIPT, ALLOWED = "an actor's raw tasks", "a script's", "4 fsyncs + 5 ms"


def main() -> None:
    """Print the ratios."""
    arguments = parser(__doc__)
    arguments.add_argument("--folder", type=Path, default="/var/tmp", help="where to measure; default: %(default)s")
    given = arguments.parse_args()
    alone, together = (8, 8) if given.quick else (200, 400)
    with (
        tempfile.TemporaryDirectory(prefix="tourney-bench-", dir=given.folder) as folder,
        local_cluster({"H100": GPUS}) as cluster,
    ):
        os.environ.update(cluster.environment)
        rows = measured(Path(folder), cluster.address, alone, together)
    show("dispatch", rows, given.json)


def measured(folder: Path, address: str, alone: int, together: int) -> list[Row]:
    """The rows, of so many trainings each."""
    from tourney_ray.driver.client import connection

    with connection(address):
        raw = raw_tasks(alone, together)
        one = intents(trained(folder / "alone", WARM_ALONE, alone, 1))
        ours_alone = median((later - earlier).total_seconds() for earlier, later in pairwise(one[WARM_ALONE:]))
        entries = trained(folder / "together", WARM_TOGETHER, together, None)
    ours_together = span_s(entries) / together
    allowed_s = FSYNCS * fsync_s(folder) + MORE_S
    return [
        _row("one after the other", ours_alone, raw[0], allowed_s, alone),
        _row("all at once", ours_together, raw[1], allowed_s, together),
    ]


def raw_tasks(alone: int, together: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of a raw Ray task, one after the other and of many at once, by whose it is."""
    import ray

    task: Any = ray.remote(_nothing).options(num_cpus=0, num_gpus=1, resources={"H100": 1}, max_retries=0)
    actor: Any = ray.remote(_Actor).options(num_cpus=0).remote(task)
    ray.get(actor.together.remote(WARM_TOGETHER))
    ray.get([task.remote() for _ in range(WARM_TOGETHER)])
    script_alone = median(timed(lambda: ray.get(task.remote()))[0] for _ in range(alone))
    script_together, _ = timed(lambda: ray.get([task.remote() for _ in range(together)]))
    one: float = ray.get(actor.alone.remote(alone))
    many: float = ray.get(actor.together.remote(together))
    return {OF_ACTOR: one, OF_SCRIPT: script_alone}, {OF_ACTOR: many, OF_SCRIPT: script_together / together}


class _Actor:
    """Submits raw tasks as they fit, and awaits them."""

    def __init__(self, task: Any) -> None:
        self._task = task
        self._left = 0

    async def alone(self, tasks: int) -> float:
        """Median seconds of one, one after the other."""
        return median([await self._timed() for _ in range(tasks)])

    async def together(self, tasks: int) -> float:
        """Seconds a task, where as many run as there are GPUs."""
        self._left, start = tasks, perf_counter()
        await asyncio.gather(*(self._some() for _ in range(GPUS)))
        return (perf_counter() - start) / tasks

    async def _some(self) -> None:
        while self._left:
            self._left -= 1
            await self._task.remote()

    async def _timed(self) -> float:
        start = perf_counter()
        await self._task.remote()
        return perf_counter() - start


def trained(folder: Path, warm: int, trainings: int, max_trainers: int | None) -> list[Entry]:
    """What the driver recorded of so many trainings, after some to warm up."""
    from lab.idle_driver import followed, record, settings_in, started

    group = GroupRound(warm + trainings, Cluster()).open()
    for _ in range(3):
        group.turn()  # until the round starts
    folder.mkdir()
    settings = settings_in(folder, folder.name, max_trainers)
    record(settings, group.facts, AT)
    driver = started(settings)
    entries = followed(driver, lambda entry: entry.kind == LeaseEnded.__name__, warm + trainings, PATIENCE_S)
    driver.kill()
    return entries


def intents(entries: Sequence[Entry]) -> list[datetime]:
    """When each training's GPUs were leased."""
    return [entry.at for entry in entries if entry.kind == AttemptStarted.__name__]


def span_s(entries: Sequence[Entry]) -> float:
    """Seconds from the end of the last training that was to warm up to the end of the last one."""
    ends = [entry.at for entry in entries if entry.kind == LeaseEnded.__name__]
    return (ends[-1] - ends[WARM_TOGETHER - 1]).total_seconds()


def fsync_s(folder: Path) -> float:
    """Seconds of a write of 4 KiB that is on the disk afterwards."""
    with (folder / "raw").open("ab") as raw:
        return median(
            timed(lambda: (os.write(raw.fileno(), bytes(4096)), os.fsync(raw.fileno())))[0] for _ in range(50)
        )


def _nothing() -> None:
    """What a raw task does."""


def _row(what: str, ours_s: float, raw_s: dict[str, float], allowed_s: float, n: int) -> Row:
    more_s = max(ours_s - raw_s[OF_ACTOR], 1e-6)
    ratios = {whose: ours_s / seconds for whose, seconds in raw_s.items()}
    return Row(what, {**ratios, ALLOWED: more_s / allowed_s}, n, ours_s * 1000)


if __name__ == "__main__":
    main()
