"""When the next tournament of a type starts (RULES §1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tourney_ray.core.models import TournamentStatus, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import State


@dataclass(frozen=True, slots=True)
class Agenda:
    """Which tournaments are to be held."""

    types: tuple[TournamentType, ...] = ()
    endless: bool = False
    """Whether a tournament follows the one before, or one of each type is all."""
    rules: Rules = field(default_factory=Rules)
    """Of the tournaments yet to be announced."""


def process_tournament_scheduling(
    state: State, tournament_type: TournamentType, rules: Rules, now: datetime
) -> datetime | None:
    """The moment from which a new tournament of the type may start: `now` when it may at once, None while one runs.

    One starts when none of its type is pending or active and the last completed one ended at least
    `tournament_interval_hours` ago, that moment included.
    """
    mine = [t for t in state.tournaments.values() if t.tournament_type is tournament_type]
    if any(t.status in (TournamentStatus.PENDING, TournamentStatus.ACTIVE) for t in mine):
        return None
    ends = [t.completed_at for t in mine if t.completed_at is not None]
    return max([now, *(end + timedelta(hours=rules.tournament_interval_hours) for end in ends)])
