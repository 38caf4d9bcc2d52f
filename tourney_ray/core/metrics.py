"""What checkpoints are compared by: a number that knows which way it is better."""

from __future__ import annotations

from enum import StrEnum

from tourney_ray.core.models import Record, TaskType


class Direction(StrEnum):
    """Which way a metric is better."""

    LOWER = "lower"
    HIGHER = "higher"


class Metric(Record):
    """A number that compares checkpoints, with the direction in which it is better."""

    name: str
    direction: Direction

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is strictly better than `other`."""
        return one < other if self.direction is Direction.LOWER else one > other

    def gain(self, old: float, new: float) -> float:
        """How much better `new` is than `old`, negative when it is worse."""
        return old - new if self.direction is Direction.LOWER else new - old

    def improved(self, value: float, step: float) -> float:
        """`value` made better by `step`."""
        return value - step if self.direction is Direction.LOWER else value + step

    def sort_key(self, value: float) -> float:
        """A key that sorts the best value first."""
        return value if self.direction is Direction.LOWER else -value


LOSS = Metric(name="loss", direction=Direction.LOWER)
REWARD = Metric(name="reward", direction=Direction.HIGHER)

METRICS: dict[TaskType, Metric] = {
    TaskType.INSTRUCT: LOSS,
    TaskType.CHAT: LOSS,
    TaskType.DPO: LOSS,
    TaskType.GRPO: REWARD,
    TaskType.IMAGE: LOSS,
}
"""The only place that knows which task types want a high number (RULES, words)."""
