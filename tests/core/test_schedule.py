"""When the next tournament of a type starts (RULES §1)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.builders import CHAMPION, START, Stage, offer, play
from tourney_ray.core import events as e
from tourney_ray.core.draw import commitment
from tourney_ray.core.models import TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.schedule import process_tournament_scheduling
from tourney_ray.core.state import State

TEXT, IMAGE = TournamentType.TEXT, TournamentType.IMAGE
REST = timedelta(hours=72)


def next_start(state: State, now: datetime, kind: TournamentType = TEXT) -> datetime | None:
    return process_tournament_scheduling(state, kind, Rules(), now)


def test_the_first_tournament_starts_at_once():
    assert next_start(State(), START) == START


def test_the_next_one_starts_72_hours_after_the_end_that_moment_included():
    state = play(8).state
    (ended,) = (t.completed_at for t in state.tournaments.values())
    assert ended is not None
    due = ended + REST
    assert next_start(state, ended) == due
    assert next_start(state, due - timedelta(microseconds=1)) == due
    assert next_start(state, due) == due
    assert next_start(state, due + timedelta(days=9)) == due + timedelta(days=9)


def test_the_rest_follows_the_rules():
    state = play(8).state
    (ended,) = (t.completed_at for t in state.tournaments.values())
    assert ended is not None
    rules = Rules(tournament_interval_hours=1)
    assert process_tournament_scheduling(state, TEXT, rules, ended) == ended + timedelta(hours=1)


@pytest.mark.parametrize("miners", [0, 8])
def test_none_starts_while_one_of_its_type_is_pending_or_active(miners: int):
    stage = Stage()
    stage.record(created(TEXT))
    for i in range(miners):
        stage.record(e.TransferCredited(transfer_id=f"{i}", coldkey=f"c-m{i}", rao=10**9))
    if miners:
        answers = tuple(offer(f"m{i}") for i in range(miners))
        stage.record(e.RegistrationPassed(tournament_id="text", number=1, answers=answers))
        stage.record(e.TournamentActivated(tournament_id="text", draw_seed="11" * 32))
    assert next_start(stage.state, stage.at + timedelta(days=30)) is None
    assert next_start(stage.state, stage.at, IMAGE) == stage.at


def created(kind: TournamentType) -> e.TournamentCreated:
    return e.TournamentCreated(
        tournament_id=kind.value,
        tournament_type=kind,
        rules=Rules(),
        draw_commitment=commitment("11" * 32),
        secret_commitment="0" * 64,
        champion=offer(CHAMPION),
        because="tested",
    )
