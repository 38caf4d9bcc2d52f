"""How long a tournament stands between two rounds: from the last metric to the first training that starts after it.

The real driver, an actor on a local Ray cluster of one node with 8 logical GPUs, with its journal on the disk, plays
whole tournaments of 16 entrants, whose trainings do nothing for some seconds and whose metrics are told at once.
Tasks are prepared as they are in the demo, in a process of their own, while the round before them trains. By the
moments of the journal, over all advances:

- p50, p99: from the last metric of a round to the first intent of the next one
- p50, p99 to the task: from the last metric until all tasks of the next round are recorded
- p50 until it runs: from the last metric until the first training of the next round says that it runs, or has ended

Compared with: raw Ray tasks of the same GPUs that do nothing, and the goals with the next task's data ready, 0.25 s for
half of the advances and 1 s for 99 % of them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch import OF_SCRIPT, raw_tasks
from lab.group_round import AT, SEED, GroupRound
from lab.ratios import Row, parser, show

from tourney_ray.core.draw import commitment
from tourney_ray.core.events import (
    AttemptRunning,
    AttemptStarted,
    CheckpointEvaluated,
    LeaseEnded,
    RoundActivated,
    RoundDrawn,
    SecretRevealed,
)
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.driver.cluster import local_cluster

if TYPE_CHECKING:
    from tourney_ray.core.chain import Entry

ENTRANTS = 16
GPUS = 8
RANGE = (0.0001, 1.0)
RULES = Rules(
    knockout_at_most=8,
    knockout_task_shares={TaskType.INSTRUCT: 1.0},
    group_model_range_b=RANGE,
    knockout_model_range_b=RANGE,
    hours_scale=0.0006,
)
"""An hour lasts 2.2 s: rounds are long enough for a process that prepares the next one's tasks to start meanwhile."""
HALF_S, NEARLY_ALL_S = 0.25, 1.0
"""What half, and 99 %, of the advances may take."""
PATIENCE_S = 240.0
HAS_RUN = {AttemptRunning.__name__, LeaseEnded.__name__}
"""The one comes after the other, or both at once."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Seconds since the last metric of a round."""

    activated: float
    """All tasks of the next round are prepared,"""
    started: float
    """its first intent is recorded,"""
    has_run: float
    """and its first training runs, or has run."""


def main() -> None:
    """Print the ratios."""
    arguments = parser(__doc__)
    arguments.add_argument("--folder", type=Path, default="/var/tmp", help="where to measure; default: %(default)s")
    given = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="tourney-bench-", dir=given.folder) as folder,
        local_cluster({"H100": GPUS}) as cluster,
    ):
        os.environ.update(cluster.environment)
        rows = measured(Path(folder), cluster.address, 1 if given.quick else 6)
    show("advance", rows, given.json)


def measured(folder: Path, address: str, tournaments: int) -> list[Row]:
    """The rows, of the advances of so many tournaments."""
    from tourney_ray.driver.client import connection

    with connection(address):
        raw_s = raw_tasks(20, 20)[0][OF_SCRIPT]
        advances = [a for i in range(tournaments) for a in advances_of(held(folder / f"advance-{i}"))]
    whole, running = [a.started for a in advances], [a.has_run for a in advances]
    tasks = [a.activated for a in advances]
    return [
        _row("p50", whole, 0.5, raw_s),
        _row("p99", whole, 0.99, raw_s),
        _row("p50 to the task", tasks, 0.5, raw_s),
        _row("p99 to the task", tasks, 0.99, raw_s),
        _row("p50 until it runs", running, 0.5, raw_s),
    ]


def held(folder: Path) -> list[Entry]:
    """What the driver recorded of a whole tournament."""
    from lab.idle_driver import QuickDriver, followed, record, settings_in, started

    settings = settings_in(folder, folder.name)
    seeds = folder / "seeds"
    seeds.mkdir(parents=True)
    (seeds / f"{commitment(SEED)}.json").write_text(json.dumps({"draw": SEED, "secret": SEED}))
    group = GroupRound(ENTRANTS, Cluster(), RULES).open()
    group.turn()  # the miners have been asked
    record(settings, group.facts, AT)
    driver = started(settings, QuickDriver)
    entries = followed(driver, lambda entry: entry.kind == SecretRevealed.__name__, 1, PATIENCE_S)
    driver.kill()
    return entries


def advances_of(entries: Sequence[Entry]) -> Iterator[Advance]:
    """From each round to the next, of a journal from its beginning."""
    drawn = [i for i, entry in enumerate(entries) if entry.kind == RoundDrawn.__name__]
    for place in drawn[1:]:
        (*_, metric) = (entry for entry in entries[:place] if entry.kind == CheckpointEvaluated.__name__)
        after = [
            next(entry.at for entry in entries[place:] if entry.kind in kinds)
            for kinds in ({RoundActivated.__name__}, {AttemptStarted.__name__}, HAS_RUN)
        ]
        yield Advance(*((at - metric.at).total_seconds() for at in after))


def _row(what: str, seconds: Sequence[float], share: float, raw_s: float) -> Row:
    """The number that so many of them are not above; at least a microsecond, since facts may share a moment."""
    value = max(sorted(seconds)[ceil(share * len(seconds)) - 1], 1e-6)
    goal_s = HALF_S if share <= 0.5 else NEARLY_ALL_S
    return Row(what, {"raw Ray task": value / raw_s, "the goal": value / goal_s}, len(seconds), value * 1000)


if __name__ == "__main__":
    main()
