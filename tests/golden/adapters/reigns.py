"""Reigns from a recorded history of tournaments, kept by our own `evolve`: what 06e and 08 have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tests.builders import offer
from tests.golden.harness import BURN
from tourney_ray.core.decisions import Title, TournamentCompleted
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import TournamentStatus, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import Reign, State, Tournament

AT = datetime(2025, 1, 1, tzinfo=UTC)
NOBODY = "nobody"
"""Holds the title after a tournament that is recorded as completed without a winner."""


def real_winner(tournament: Any) -> str:
    """Who won: the champion of before where the implementation says its burn hotkey, a label where it had none."""
    winner = tournament["winner"] or NOBODY
    return tournament["base"] or BURN if winner == BURN else winner


def completed(history: Iterable[Any], tournament_type: str) -> list[Any]:
    """The completed tournaments of a type; cancelled and running ones are passed over."""
    return [h for h in history if h["type"] == tournament_type and h["status"] == "completed"]


def reign_after(
    history: Iterable[Any], tournament_type: str, differences: dict[str, float] | None = None
) -> Reign | None:
    """Who reigns after that history; `differences` are performance differences by tournament, else 0."""
    state = State()
    for tournament in completed(history, tournament_type):
        state = _completed(state, tournament, (differences or {}).get(tournament["id"], 0.0))
    return state.reigns.get(TournamentType(tournament_type))


def _completed(state: State, tournament: Any, difference: float) -> State:
    """The state after one more tournament, in which the reigning champion defended."""
    kind, winner = TournamentType(tournament["type"]), real_winner(tournament)
    reign = state.reigns.get(kind)
    title: Title = "uncontested" if reign is None else "defended" if reign.champion.hotkey == winner else "won"
    digest = hashlib.sha256(tournament["id"].encode()).hexdigest()
    active = Tournament(
        tournament_id=tournament["id"],
        tournament_type=kind,
        rules=Rules(),
        draw_commitment=digest,
        secret_commitment=digest,
        created_at=AT,
        champion=reign.champion if reign else None,
        champion_wins=reign.wins if reign else 0,
        status=TournamentStatus.ACTIVE,
        entrants={winner: offer(winner)},
    )
    fact = TournamentCompleted(
        tournament_id=tournament["id"],
        winner=winner,
        title=title,
        performance_difference=difference,
        standings=(),
        because="recorded",
    )
    return evolve(State(tournaments={tournament["id"]: active}, reigns=state.reigns), fact, AT)
