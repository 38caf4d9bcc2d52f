"""Which GPUs the rules can ask for, whatever is drawn, and which of them no node could hold. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tourney_ray.core.models import GpuRequirement, RoundType, TaskType, TournamentType
from tourney_ray.core.resources import get_tournament_gpu_requirement
from tourney_ray.core.rules import Range, Rules
from tourney_ray.core.tasks import model_range_b


@dataclass(frozen=True, slots=True)
class Demand:
    """Trainings that a round can have, alike in what they need."""

    round_type: RoundType
    task_type: TaskType
    requirement: GpuRequirement
    smallest: int = 0
    """Parameters of the smallest model that needs so much; 0 where the size does not matter."""
    largest: int = 0

    def __str__(self) -> str:
        """`boss GrpoTask, models of 20 to 71 B: 8×H100 on one node`."""
        needs = f"{self.requirement.gpus}×{self.requirement.gpu_type} on one node"
        if not self.largest:
            return f"{self.round_type.value} {self.task_type.value}: {needs}"
        low, high = f"{self.smallest / 1e9:.3g}", f"{self.largest / 1e9:.3g}"
        sizes = f"models of {low} B" if low == high else f"models of {low} to {high} B"
        return f"{self.round_type.value} {self.task_type.value}, {sizes}: {needs}"


def demands(
    types: Collection[TournamentType], titled: Collection[TournamentType], rules: Rules, known: Sequence[int] = ()
) -> list[Demand]:
    """All that the rules can draw in tournaments of these types, by round, task type and need.

    A boss round there is in `titled` types only, where somebody defends. `known` are the parameters of all models that
    there are; empty: any size within the rules' ranges may come.
    """
    found: dict[tuple[RoundType, TaskType, GpuRequirement], Demand] = {}
    if TournamentType.IMAGE in types:
        kinds = (RoundType.GROUP, RoundType.KNOCKOUT, RoundType.BOSS)
        found |= {(k, TaskType.IMAGE, GpuRequirement.A100): _image(k) for k in kinds}
    for round_type, task_type, sizes in _drawn(rules) if TournamentType.TEXT in types else ():
        for params in _sizes(task_type, sizes, rules, known):
            needs = get_tournament_gpu_requirement(task_type, params, rules)
            key = round_type, task_type, needs
            before = found.get(key, Demand(round_type, task_type, needs, params, params))
            low, high = min(before.smallest, params), max(before.largest, params)
            found[key] = Demand(round_type, task_type, needs, low, high)
    return [d for d in found.values() if d.round_type is not RoundType.BOSS or _type_of(d) in titled]


def misfits(wanted: Iterable[Demand], nodes: Sequence[Mapping[str, int]]) -> list[Demand]:
    """Those that fit on none of the nodes, each given as its GPUs by type, even when it is idle."""
    return [
        demand
        for demand in wanted
        if not any(gpus.get(demand.requirement.gpu_type, 0) >= demand.requirement.gpus for gpus in nodes)
    ]


def _type_of(demand: Demand) -> TournamentType:
    return TournamentType.IMAGE if demand.task_type is TaskType.IMAGE else TournamentType.TEXT


def _image(round_type: RoundType) -> Demand:
    return Demand(round_type, TaskType.IMAGE, GpuRequirement.A100)


def _drawn(rules: Rules) -> Iterator[tuple[RoundType, TaskType, Range]]:
    """Every kind of text task by round, with each range of sizes of its model (RULES §4)."""
    yield RoundType.GROUP, rules.group_task, rules.group_model_range_b
    for task_type, share in rules.knockout_task_shares.items():
        if share > 0:
            yield RoundType.KNOCKOUT, task_type, rules.knockout_model_range_b
    for task_type in dict.fromkeys(rules.boss_tasks):
        for sizes in dict.fromkeys(model_range_b(RoundType.BOSS, rules, u) for u in (0.0, 1.0)):
            yield RoundType.BOSS, task_type, sizes


def _sizes(task_type: TaskType, sizes: Range, rules: Rules, known: Sequence[int]) -> list[int]:
    """Sizes of which the needs are those of all: what is known, or both ends and both sides of every threshold."""
    low, high = int(sizes[0] * 1e9), int(sizes[1] * 1e9)
    if known:
        return [params for params in known if low <= params <= high]
    bounds = (rules.gpu_threshold_for_2x_h100, rules.gpu_threshold_for_4x_h100, rules.gpu_threshold_for_8x_h100)
    factor = {TaskType.DPO: rules.dpo_gpu_multiplier, TaskType.GRPO: rules.grpo_gpu_multiplier}.get(task_type, 1)
    edges = [int(bound * 1e9 / factor) + side for bound in bounds for side in (0, 1)]
    return [max(1, low), high, *(edge for edge in edges if low < edge < high)]
