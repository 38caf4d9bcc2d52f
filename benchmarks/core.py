"""How the cost of one step of the driver grows with the trainings in the state.

Measured: an outcome comes in, `forced` gives the facts that follow from it, `plan` the work that should now be running.
A group round of n entrants is one task of n trainings. Steps that come once per training, and those once per round:

- a training ends, few GPUs: 16 trainings run, all others wait
- a training ends, GPUs for half: half of them run, on n / 16 nodes, the others wait
- every miner answers: n registrations follow from one outcome
- the round starts: its task is prepared, n assignments follow
- the round is decided: the last metric comes in, a ranking of n and the next draw follow

And one step of the driver's loop as it is, on a journal on the disk: a training ends, all that follows is recorded for
good, its evaluation and the next training are dispatched.

Compared with: `model_dump_json` of the same outcome; the same step with the fewest trainings; and what that would be if
it grew as n log n, so that a figure above 1 grows faster. Only the last column is a time, in milliseconds: the goal for
the loop's step is 20 with 1,000 trainings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from statistics import median

from lab.group_round import AT, GroupRound, cluster
from lab.loop_round import LoopRound
from lab.ratios import Row, in_turn, parser, show, timed

from tourney_ray.core.events import Fact
from tourney_ray.core.plan import plan
from tourney_ray.core.settle import forced
from tourney_ray.core.state import State

FEW_GPUS = 16
ONCE = frozenset({"every miner answers", "the round starts", "the round is decided"})
"""Steps that come once per round: long ones, so that fewer repetitions have to do."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A state, and the outcome that comes in next."""

    state: State
    outcome: tuple[Fact, ...]

    def step(self) -> None:
        """What the driver computes for it."""
        after = self.state
        for fact in self.outcome:
            _, after = forced(after, fact, AT)
        plan(after, AT)

    def dump(self) -> None:
        """The baseline."""
        for fact in self.outcome:
            fact.model_dump_json()


def main() -> None:
    """Print how the steps grow."""
    arguments = parser(__doc__).parse_args()
    sizes = (16, 32) if arguments.quick else (100, 1_000, 10_000)
    by_size = {size: moments(size) for size in sizes}
    rows: list[Row] = []
    for step in by_size[sizes[0]]:
        n = 2 if arguments.quick else 5 if step in ONCE else 15
        rows += measured(step, {size: by_size[size][step] for size in sizes}, n)
    with tempfile.TemporaryDirectory(prefix="tourney-bench-") as folder:
        rows += loop_steps(Path(folder), sizes, 2 if arguments.quick else 25)
    show("core", rows, arguments.json)


def moments(size: int) -> dict[str, Moment]:
    """The moments to measure, by name, in a group round of so many trainings."""
    group = GroupRound(size, cluster(size)).open()
    answers = _next(group)
    group.turn()  # the miners answer
    group.turn()  # the draw seed is revealed, the round drawn
    start = _next(group)
    group.turn()  # the task is prepared, the round starts
    few, half = (replace(group, cluster=cluster(gpus), facts=[]) for gpus in (FEW_GPUS, size // 2))
    few.turn()
    half.turn()  # as many trainings start as there are GPUs
    group.turn()
    group.turn()  # all start, then all end
    group.turn(spare=1)  # all are evaluated but one
    return {
        "a training ends, few GPUs": _next(few),
        "a training ends, GPUs for half": _next(half),
        "every miner answers": answers,
        "the round starts": start,
        "the round is decided": _next(group),
    }


def measured(step: str, at: dict[int, Moment], n: int) -> list[Row]:
    """The rows of one step, by the number of trainings, the fewest first."""
    calls: list[Callable[[], object]] = [call for moment in at.values() for call in (moment.step, moment.dump)]
    medians = in_turn(calls, n)
    least, fewest = medians[0], next(iter(at))
    rows: list[Row] = []
    for size, seconds, dump in zip(at, medians[::2], medians[1::2], strict=True):
        ratios = {"outcome as JSON": seconds / dump, **growth(seconds / least, fewest, size)}
        rows.append(Row(f"{step}; {size:,} trainings", ratios, n, seconds * 1000))
    return rows


def loop_steps(folder: Path, sizes: Sequence[int], n: int) -> list[Row]:
    """The rows of whole steps of the loop, each size on a journal of its own."""
    rounds = [LoopRound(folder / str(size), size, FEW_GPUS) for size in sizes]
    ended = _ended(rounds[0])
    medians = [median(timed(one.step)[0] for _ in range(n)) for one in rounds]
    dumps = in_turn([ended], n)
    for one in rounds:
        one.journal.close()
    return [
        Row(
            f"the loop: a training ends; {size:,} trainings",
            {"outcome as JSON": seconds / dumps[0], **growth(seconds / medians[0], sizes[0], size)},
            n,
            seconds * 1000,
        )
        for size, seconds in zip(sizes, medians, strict=True)
    ]


def growth(ratio: float, fewest: int, size: int) -> dict[str, float]:
    """A ratio to the smallest size, as it is and against n log n."""
    return {f"with {fewest}": ratio, f"n log n from {fewest}": ratio * fewest * log(fewest) / (size * log(size))}


def _ended(one: LoopRound) -> Callable[[], object]:
    one.step()
    fact = next(entry.fact for entry in one.journal.entries() if entry.kind == "AttemptEnded")
    return fact.model_dump_json


def _next(group: GroupRound) -> Moment:
    """The group as it is, and the outcome of the first command that it waits for."""
    return Moment(group.state, group.answer(group.commands()[0]))


if __name__ == "__main__":
    main()
