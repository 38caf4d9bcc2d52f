"""Decisions, as facts: who won a task, who advances, who holds the title. Each says why, for the miner to read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tourney_ray.core.models import Hotkey, Record, TaskStatus

Title = Literal["won", "defended", "uncontested", "vacant"]
"""How a tournament ended: the challenger won, the champion defended, there was no champion to beat, nobody survived."""


class Refunded(Record):
    """An entrant's fee went back to its account, once (RULES §2)."""

    kind: Literal["Refunded"] = "Refunded"
    tournament_id: str
    hotkey: Hotkey
    coldkey: Hotkey
    rao: int = Field(ge=0)
    because: str


class TaskRepeated(Record):
    """The platform failed most of a task's trainings: all of them begin anew (RULES §6)."""

    kind: Literal["TaskRepeated"] = "TaskRepeated"
    tournament_id: str
    task_id: str
    number: int = Field(ge=2)
    """Which run of the task begins."""
    because: str


class EvaluationRepeated(Record):
    """Nobody's metric was valid: the whole task is evaluated again (RULES §7)."""

    kind: Literal["EvaluationRepeated"] = "EvaluationRepeated"
    tournament_id: str
    task_id: str
    number: int = Field(ge=2)
    because: str


class Ranked(Record):
    """One entrant's place in a task."""

    hotkey: Hotkey
    value: float | None
    """The metric; None where there is no checkpoint."""
    valid: bool
    score: int
    """3, 0 or −1 (RULES §7)."""
    place: int | None
    """From 1; None for the invalid."""
    because: str


class TaskDecided(Record):
    """A task is terminal, with the order of its entrants, best first, the invalid last."""

    kind: Literal["TaskDecided"] = "TaskDecided"
    tournament_id: str
    task_id: str
    status: TaskStatus
    ranking: tuple[Ranked, ...]
    winner: Hotkey | None
    because: str


class Verdict(Record):
    """Whether an entrant advances from a match, and why."""

    hotkey: Hotkey
    advances: bool
    value: float | None
    because: str


class MatchDecided(Record):
    """A match's verdicts; those who advance are listed best first."""

    kind: Literal["MatchDecided"] = "MatchDecided"
    tournament_id: str
    match_id: str
    advancing: tuple[Hotkey, ...]
    verdicts: tuple[Verdict, ...]
    because: str


class RoundCompleted(Record):
    """A round is over; `advancing` lists who plays on, best placed first."""

    kind: Literal["RoundCompleted"] = "RoundCompleted"
    tournament_id: str
    round_id: str
    advancing: tuple[Hotkey, ...]
    because: str


class Standing(Record):
    """An entrant's place in the tournament, with what it earned."""

    hotkey: Hotkey
    place: int = Field(ge=1)
    points: float = Field(ge=0)
    weight: float = Field(ge=0, le=1)


class TournamentCompleted(Record):
    """The tournament has a winner, its standings are final."""

    kind: Literal["TournamentCompleted"] = "TournamentCompleted"
    tournament_id: str
    winner: Hotkey | None
    title: Title
    performance_difference: float
    history_difference: float | None = None
    """The same against the best historical metrics in the champion's place; reported, decides nothing (RULES §8)."""
    standings: tuple[Standing, ...]
    """Those who earned a place, first to last; their weights sum to 1."""
    because: str
