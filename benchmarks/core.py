"""How the cost of one step of the driver grows with the trainings in the state.

Measured: an outcome comes in, `forced` gives the facts that follow from it, `plan` the work that should now be running.
A group round of n entrants is one task of n trainings. Steps that come once per training, and those once per round:

- a training ends, few GPUs: 16 trainings run, all others wait
- a training ends, GPUs for half: half of them run, on n / 16 nodes, the others wait
- every miner answers: n registrations follow from one outcome
- the round starts: its task is prepared, n assignments follow
- the round is decided: the last metric comes in, a ranking of n and the next draw follow

Compared with: `model_dump_json` of the same outcome; the same step with the fewest trainings; and what that would be if
it grew as the trainings do, so that 1 is linear growth and a figure that rises with n is worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lab.group_round import AT, GroupRound, cluster
from lab.ratios import Row, in_turn, parser, show

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
    sizes = (16, 32) if arguments.quick else (100, 1_000, 4_000)
    by_size = {size: moments(size) for size in sizes}
    rows: list[Row] = []
    for step in by_size[sizes[0]]:
        n = 2 if arguments.quick else 5 if step in ONCE else 15
        rows += measured(step, {size: by_size[size][step] for size in sizes}, n)
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
        growth = seconds / least
        ratios = {"outcome as JSON": seconds / dump, f"with {fewest}": growth}
        ratios[f"linear from {fewest}"] = growth * fewest / size
        rows.append(Row(f"{step}; {size:,} trainings", ratios, n))
    return rows


def _next(group: GroupRound) -> Moment:
    """The group as it is, and the outcome of the first command that it waits for."""
    return Moment(group.state, group.answer(group.commands()[0]))


if __name__ == "__main__":
    main()
