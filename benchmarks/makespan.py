"""How long it takes to be through with many trainings of mixed width, by several policies, in virtual time.

Policies, on the same traces: ours, that is `core.placement` as the driver asks it; arrival order; smallest first, to
which Ray drifts; and G.O.D's, which polls every 15 minutes and holds GPUs while it downloads, builds and uploads.

- 32 and 200 trainings of 1, 2, 4 or 8 GPUs with limits of 1 to 6 hours, on 2 and 4 nodes of 8 GPUs, 40 seeds each
- a whole tournament of 32 entrants, round after round, on 4 nodes

Compared with: a lower bound of the makespan that no schedule can beat: mean of the seeds, and 95th percentile.
The third column is by how much ours is faster than that policy, on average; the fourth is the share of GPU-hours that
nobody had, though a training waited that would have fit: of ours, one that may start there and is still being staged.
The last one is that share without the hours before the first training on each GPU: nothing can be staged for that one
while the GPU is busy.
Goals for ours: at 200 trainings a mean of 1.05, a 95th percentile of 1.10 and 0.01 of the GPU-hours at most; at 32
trainings 1.12 and 1.25; and at least 1.25 times as fast as G.O.D's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, quantiles

from lab import policies
from lab.ratios import Row, parser, show
from lab.traces import NODE_GPUS, Job, draw, lower_bound, tournament

IDLE = "all GPU-hours: idle, though one fits"
AGAIN = "of these not a GPU's first"

POLICIES: dict[str, Callable[[Sequence[Job], int], policies.Played]] = {
    "ours": policies.ours,
    "arrival order": policies.arrival_order,
    "smallest first": policies.smallest_first,
    "G.O.D's": policies.god,
}


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__).parse_args()
    seeds = range(2 if arguments.quick else 40)
    cases = {
        "32 trainings": ([[draw(seed, 32)] for seed in seeds], 2),
        "200 trainings": ([[draw(seed, 50 if arguments.quick else 200)] for seed in seeds], 4),
        "a tournament": ([tournament(seed) for seed in seeds], 4),
    }
    show(
        "makespan",
        [row for case, (held, nodes) in cases.items() for row in compared(case, held, nodes)],
        arguments.json,
    )


def compared(case: str, held: Sequence[Sequence[Sequence[Job]]], nodes: int) -> list[Row]:
    """The rows of one case: for every seed, rounds of trainings that follow each other."""
    bounds = [sum(lower_bound(jobs, nodes) for jobs in rounds) for rounds in held]
    played = {name: [[policy(jobs, nodes) for jobs in rounds] for rounds in held] for name, policy in POLICIES.items()}
    spans = {name: [sum(each.hours for each in rounds) for rounds in every] for name, every in played.items()}
    rows: list[Row] = []
    for name, lengths in spans.items():
        ratios = [length / bound for length, bound in zip(lengths, bounds, strict=True)]
        faster = fmean(length / own for length, own in zip(lengths, spans["ours"], strict=True))
        every, all_hours = [each for rounds in played[name] for each in rounds], sum(lengths) * nodes * NODE_GPUS
        measured = {"lower bound, mean": fmean(ratios), "p95": quantiles(ratios, n=20)[-1], "ours": faster}
        idle = {IDLE: sum(each.idle for each in every), AGAIN: sum(each.idle_again for each in every)}
        shares = {what: max(hours / all_hours, 1e-6) for what, hours in idle.items()}
        rows.append(Row(f"{case}: {name}", {**measured, **shares}, len(ratios)))
    return rows


if __name__ == "__main__":
    main()
