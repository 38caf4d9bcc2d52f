"""What it costs to record facts for good, and to read them back.

Measured in a folder of its own, removed afterwards, while a group round of a few hundred trainings is played:

- append, 1 fact: one transaction of DuckDB with its tables, and one line of the second copy, both on the disk
- append, 100 facts: the same, of 100 facts at once
- replay: `Journal.open` of all that was recorded, which checks every hash and both copies, per 1,000 facts

Compared with: writing the same facts' lines to a file in the same folder and one `os.fsync`. Where the folder lies in
memory, fsync costs nothing and the ratios mean nothing: choose one on the disk that a journal would lie on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from lab.group_round import AT, GroupRound, cluster
from lab.ratios import Row, parser, show, timed

from tourney_ray.core.events import Fact
from tourney_ray.store.journal import Journal
from tourney_ray.store.second_copy import entry_line

GPUS = 16
BATCH = 100
BASELINE = "os.fsync of the same bytes"


def main() -> None:
    """Print the ratios."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--folder", type=Path, default=Path("/var/tmp"), help="where to measure; default: %(default)s"
    )
    given = arguments.parse_args()
    appends, replays, trainings = (2, 2, 100) if given.quick else (15, 7, 600)
    with tempfile.TemporaryDirectory(prefix="tourney-bench-", dir=given.folder) as folder:
        rows = measured(Path(folder), played(trainings), appends, replays)
    show("journal", rows, given.json)


def played(trainings: int) -> Iterator[Sequence[Fact]]:
    """The facts of a group round: all up to its start at once, then those of the trainings one by one."""
    group = GroupRound(trainings, cluster(GPUS)).open()
    for _ in range(3):
        group.turn()
    yield list(group.facts)
    while True:
        done = len(group.facts)
        group.turn()
        yield from ([fact] for fact in group.facts[done:])


def measured(folder: Path, facts: Iterator[Sequence[Fact]], appends: int, replays: int) -> list[Row]:
    """The rows, of so many repetitions."""
    path = folder / "journal.duckdb"
    journal, disk = Journal.open(path), Disk(folder / "raw")
    journal.append(next(facts), AT)
    rows = [appended(journal, disk, facts, appends, size) for size in (1, BATCH)]
    lines = [entry_line(entry) for entry in journal.entries()]
    journal.close()
    ...
    return rows


if __name__ == "__main__":
    main()
