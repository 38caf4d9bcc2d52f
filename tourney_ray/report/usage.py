"""What a tournament takes of a cluster, by its facts: which trainings, which GPUs, from when to when. Pure.

The facts may be those of a journal or of a rehearsal in virtual time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from tourney_ray.core import events as e
from tourney_ray.core.models import GpuRequirement, RoundType, TournamentType
from tourney_ray.core.resources import get_tournament_gpu_requirement
from tourney_ray.core.rules import Rules

HOUR_S = 3600.0


class RoundKey(NamedTuple):
    """A round of a type's tournament, by its number and shape."""

    tournament_type: TournamentType
    number: int
    """From 1."""
    round_type: RoundType


@dataclass(frozen=True, slots=True)
class Held:
    """GPUs that one attempt held. Hours count from the first fact."""

    round: RoundKey
    node: str
    gpu_type: str
    gpus: int
    limit_hours: float
    """What the attempt might have taken."""
    began_hours: float
    ended_hours: float

    @property
    def gpu_hours(self) -> float:
        """GPUs times the hours for which they were held."""
        return self.gpus * (self.ended_hours - self.began_hours)


@dataclass
class Usage:
    """All of it."""

    tasks: dict[RoundKey, int] = field(default_factory=dict[RoundKey, int])
    trainings: dict[RoundKey, dict[GpuRequirement, int]] = field(
        default_factory=dict[RoundKey, dict[GpuRequirement, int]]
    )
    """How many of each requirement; further attempts of a training are not counted."""
    held: list[Held] = field(default_factory=list[Held])
    """In the order in which they ended."""
    wall_hours: dict[TournamentType, float] = field(default_factory=dict[TournamentType, float])
    """From the first fact to the end of the type's last tournament."""


def usage(facts: Iterable[tuple[datetime, e.Fact]]) -> Usage:
    """What the facts, each with its moment and in their order, say of it; leases that have not ended are left out."""
    reader = _Reader()
    for at, fact in facts:
        reader.see(at, fact)
    return reader.found


class _Reader:
    """Goes through facts once."""

    def __init__(self) -> None:
        self.found = Usage()
        self._first: datetime | None = None
        self._types: dict[str, tuple[TournamentType, Rules]] = {}
        self._matches: dict[str, RoundKey] = {}
        self._tasks: dict[str, tuple[RoundKey, GpuRequirement]] = {}
        self._open: dict[str, tuple[e.AttemptStarted, float]] = {}

    def see(self, at: datetime, fact: e.Fact) -> None:
        """Take the next one in."""
        self._first = self._first or at
        hours = (at - self._first).total_seconds() / HOUR_S
        match fact:
            case e.TournamentCreated():
                self._types[fact.tournament_id] = fact.tournament_type, fact.rules
            case e.RoundDrawn():
                key = RoundKey(self._types[fact.tournament_id][0], fact.number, fact.round_type)
                self._matches.update((match.match_id, key) for match in fact.matches)
            case e.TaskPrepared():
                self._prepared(fact)
            case e.RoundActivated():
                self._activated(fact)
            case e.AttemptStarted():
                self._open[fact.attempt_id] = fact, hours
            case e.LeaseEnded():
                self._ended(fact, hours)
            case e.TournamentCompleted() | e.TournamentCancelled():
                self.found.wall_hours[self._types[fact.tournament_id][0]] = hours
            case _:
                pass

    def _prepared(self, fact: e.TaskPrepared) -> None:
        key, rules = self._matches[fact.match_id], self._types[fact.tournament_id][1]
        needs = get_tournament_gpu_requirement(fact.task_type, fact.data.model_params, rules)
        self._tasks[fact.task_id] = key, needs
        self.found.tasks[key] = self.found.tasks.get(key, 0) + 1

    def _activated(self, fact: e.RoundActivated) -> None:
        for assignment in fact.assignments:
            key, needs = self._tasks[assignment.task_id]
            counts = self.found.trainings.setdefault(key, {})
            counts[needs] = counts.get(needs, 0) + 1

    def _ended(self, fact: e.LeaseEnded, hours: float) -> None:
        if fact.attempt_id in self._open:
            started, began = self._open.pop(fact.attempt_id)
            terms, key = started.terms, self._tasks[started.task_id][0]
            held = Held(key, started.node, terms.gpu_type, terms.gpus, terms.hours, began, hours)
            self.found.held.append(held)


def node_hours(usage: Usage, idle_hours: float) -> Mapping[str, float]:
    """Hours for which each node is there, when one comes for trainings and goes `idle_hours` after the last of them.

    Gaps that are no longer than that count: the node stays.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for held in usage.held:
        spans.setdefault(held.node, []).append((held.began_hours, held.ended_hours + idle_hours))
    return {node: _length(sorted(mine)) for node, mine in spans.items()}


def _length(spans: Iterable[tuple[float, float]]) -> float:
    """Of the union of spans in the order of their beginnings."""
    total, until = 0.0, float("-inf")
    for began, ended in spans:
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total
