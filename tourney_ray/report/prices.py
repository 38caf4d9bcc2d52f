"""An operator's own prices, and what a tournament costs by them. Pure: no price is known here, and none is assumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Self

from pydantic import Field, model_validator

from tourney_ray.core.record import Record
from tourney_ray.report.usage import Usage, node_hours

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(Record):
    """What an hour costs: of a GPU, by its type, or of a whole node, by its instance type. One of both."""

    currency: str = Field(min_length=1)
    as_of: date
    """The day on which these prices held."""
    gpu_hour: dict[str, Price] = Field(default_factory=dict[str, Price])
    node_hour: dict[str, Price] = Field(default_factory=dict[str, Price])
    head_hour: Price | None = None
    """Of the head, which is there all the time; None: it is not counted."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.gpu_hour) == bool(self.node_hour):
            raise ValueError("give prices per gpu_hour or per node_hour, one of both")
        return self

    def lacking(self, gpu_types: Iterable[str], instance_types: Iterable[str]) -> list[str]:
        """GPU types, or instance types, that have no price; empty strings for machines that have no instance type."""
        wanted, priced = (gpu_types, self.gpu_hour) if self.gpu_hour else (instance_types, self.node_hour)
        return sorted({name for name in wanted if name not in priced})


@dataclass(frozen=True, slots=True)
class Rented:
    """The machines that are paid by the hour."""

    instance_of: Mapping[str, str] = field(default_factory=dict[str, str])
    """The instance type of each node."""
    idle_hours: float = 0.0
    """How long a node that has nothing to train is kept and paid for."""


def price_of(usage: Usage, prices: Prices, rented: Rented) -> float:
    """What it costs, in the prices' currency.

    Per GPU-hour: the hours for which GPUs are leased. Per node-hour: those of nodes that come for trainings and go
    `idle_hours` after the last one. The head's, from the first fact to the last end. Raises `KeyError` for what has no
    price.
    """
    head = (prices.head_hour or 0.0) * max(usage.wall_hours.values(), default=0.0)
    if prices.gpu_hour:
        return head + sum(prices.gpu_hour[held.gpu_type] * held.gpu_hours for held in usage.held)
    hours = node_hours(usage, rented.idle_hours)
    return head + sum(prices.node_hour[rented.instance_of[node]] * spent for node, spent in hours.items())
