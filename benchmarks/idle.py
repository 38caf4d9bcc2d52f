"""How long leased GPUs stand still around each training of a tournament, by its journal.

Per training that ended with a container or a sandboxed process of its own:

- lease to start: from the GPUs being leased, with image and data in place, to the trainer's code running
- end to release: from the end of that code to the end of the lease, which comes before its output is collected
- both together

Compared with: the trainings themselves, in the same tournament. Without --held a demo is held for it in a temporary
folder, in the sandbox that --sandbox names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from lab.ratios import Row, parser, show

from tourney_ray.store.connection import connect, database_path

BASELINE = "training"
TIMES = """
    SELECT epoch(running_at - leased_at), epoch(lease_ended_at - running_at) - seconds, seconds
    FROM attempts
    WHERE leased_at IS NOT NULL AND running_at IS NOT NULL AND lease_ended_at IS NOT NULL AND seconds > 0
"""


def main() -> None:
    """Print the ratios."""
    arguments = parser(__doc__)
    arguments.add_argument("--held", type=Path, help="folder of a tournament that was held and is over")
    arguments.add_argument("--sandbox", default="docker", help="of the demo that is held otherwise")
    given = arguments.parse_args()
    if given.held:
        rows = measured(given.held)
    else:
        with tempfile.TemporaryDirectory(prefix="tourney-bench-") as scratch:
            rows = measured(_demo(Path(scratch) / "held", given))
    show("idle", rows, given.json)


def measured(held: Path) -> list[Row]:
    """The rows; of no training at all there is nothing to say."""
    connection = connect(database_path(held), read_only=True)
    try:
        times: list[tuple[float, float, float]] = connection.execute(TIMES).fetchall()
    finally:
        connection.close()
    if not times:
        raise SystemExit(f"{held}: no training of that tournament ran and ended")
    trainings = median(seconds for _, _, seconds in times)
    medians = {
        "lease to start": median(before for before, _, _ in times),
        "end to release": median(after for _, after, _ in times),
        "both together": median(before + after for before, after, _ in times),
    }
    return [
        Row(what, {BASELINE: max(seconds, 1e-6) / trainings}, len(times), seconds * 1000)
        for what, seconds in medians.items()
    ]


def _demo(folder: Path, given: argparse.Namespace) -> Path:
    """The folder of a demo that was held just now."""
    miners = ["--miners", "4"] if given.quick else []
    command = ["demo", "--seed", "5", "--sandbox", given.sandbox, "--out", str(folder), *miners]
    done = subprocess.run([sys.executable, "-m", "tourney_ray", *command], stdout=sys.stderr, check=False)
    if done.returncode:
        raise SystemExit("the demo did not come to its end: there is nothing to measure")
    return folder


if __name__ == "__main__":
    main()
