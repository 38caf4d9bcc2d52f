"""What it costs to record facts for good, and to read them back.

Measured in a folder of its own, removed afterwards, while the group round of a tournament is played:

- append of 1 fact, or of 100 at once: their lines are on the disk
- with its tables: the same, and whoever reads the database sees it
- replay: `Journal.open` of all that was recorded, which checks every hash and holds the tables' journal against the
  lines, per 1,000 facts

Compared with: one write of the same facts' lines to a file in the same folder, and one `os.fsync`. On many a disk that
takes ten times as long at one moment as at the next, so it is timed several times in every turn, and the ratios to the
slowest and the quickest quarter of those times stand beside the median's: where they lie far apart, the disk is what
differs between two runs. Where the folder lies in memory, fsync costs nothing and the ratios mean nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

from lab.group_round import AT, GroupRound, cluster
from lab.ratios import Row, parser, show, timed

from tourney_ray.core.events import Fact
from tourney_ray.store.journal import Journal
from tourney_ray.store.lines import entry_line

BASELINE = "os.fsync of the same bytes"
SIZES = (1, 100)
"""Facts per append."""
WHAT = ("append", "with its tables")
BLOCK = 1_000
"""Facts that a replay's figure is for."""
GPUS = 16
FACTS_PER_TRAINING = 3
"""Started, ended, evaluated."""
WRITES = 5
"""Times that the baseline is timed after each thing measured."""


def main() -> None:
    """Print the ratios."""
    arguments = parser(__doc__)
    arguments.add_argument("--folder", type=Path, default="/var/tmp", help="where to measure; default: %(default)s")
    given = arguments.parse_args()
    appends, replays = (2, 2) if given.quick else (25, 9)
    with tempfile.TemporaryDirectory(prefix="tourney-bench-", dir=given.folder) as folder:
        rows = measured(Path(folder), appends, replays)
    show("journal", rows, given.json)


def measured(folder: Path, appends: int, replays: int) -> list[Row]:
    """The rows, of so many repetitions of either."""
    trainings = (appends + 1) * sum(SIZES) // FACTS_PER_TRAINING + 1
    group = GroupRound(trainings, cluster(GPUS)).open()
    for _ in range(3):
        group.turn()  # until the round starts
    path = folder / "journal.duckdb"
    journal = Journal.open(path)
    with (folder / "raw").open("ab") as raw:
        journal.append(group.facts, AT)
        rows = append_rows(journal, raw.fileno(), played(group), appends)
        lines = [entry_line(entry) for entry in journal.entries()]
        journal.close()
        rows.append(replay_row(path, raw.fileno(), lines, replays))
    return rows


def played(group: GroupRound) -> Iterator[Fact]:
    """The facts of a group round that has started, one by one."""
    while True:
        known = len(group.facts)
        group.turn()
        yield from group.facts[known:]


def append_rows(journal: Journal, raw: int, facts: Iterator[Fact], repetitions: int) -> list[Row]:
    """Appends of each size in turn, each before its baseline; the first turn of all is not counted."""
    seconds: dict[tuple[str, int], list[list[float]]] = {(what, size): [] for size in SIZES for what in WHAT}
    for _ in range(repetitions + 1):
        for size in SIZES:
            append_s, entries = timed(partial(journal.append, list(islice(facts, size)), AT))
            follow_s, _ = timed(journal.database)
            baseline = write(raw, map(entry_line, entries))
            for what, took_s in zip(WHAT, (append_s, append_s + follow_s), strict=True):
                seconds[what, size].append([took_s, *baseline])
    return [_row(f"{what}, {size} at once", turns[1:]) for (what, size), turns in seconds.items()]


def replay_row(path: Path, raw: int, lines: list[bytes], repetitions: int) -> Row:
    """Replays of the journal at `path`, which holds these lines."""
    block = lines[-BLOCK:]
    seconds: list[list[float]] = []
    for _ in range(repetitions):
        replay, journal = timed(partial(Journal.open, path))
        journal.close()
        seconds.append([replay * len(block) / len(lines), *write(raw, block)])
    return _row(f"replay, per {len(block):,} of {len(lines):,} facts", seconds)


def write(raw: int, lines: Iterable[bytes]) -> list[float]:
    """Seconds of the baseline, of each time."""
    text = b"".join(lines)
    return [timed(lambda: (os.write(raw, text), os.fsync(raw)))[0] for _ in range(WRITES)]


def _row(what: str, seconds: list[list[float]]) -> Row:
    """The row of turns, each of them the measured seconds and then the baseline's."""
    measured_s = median(turn[0] for turn in seconds)
    quick, middle, slow = quantiles((each for turn in seconds for each in turn[1:]), n=4)
    return Row(
        what,
        {BASELINE: measured_s / middle, "if slow": measured_s / slow, "if quick": measured_s / quick},
        len(seconds),
    )


if __name__ == "__main__":
    main()
