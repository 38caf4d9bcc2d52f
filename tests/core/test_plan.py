"""Work that should be running: level-triggered, so that replay and plan are the whole recovery."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.builders import CHAMPION, START, Stage, miners, offer
from tests.core.arena import Arena
from tourney_ray.core import events as e
from tourney_ray.core.commands import (
    Announce,
    AskMiners,
    PrepareTask,
    RevealDrawSeed,
    RevealSecretSeed,
)
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import RoundType, TournamentStatus, TournamentType
from tourney_ray.core.plan import plan
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import State

TEXT, IMAGE = TournamentType.TEXT, TournamentType.IMAGE


def ids(arena: Arena) -> list[str]:
    return [command.command_id for command in arena.plan().commands]


def test_nothing_is_planned_for_nobody():
    nothing = plan(State(), START)
    assert (nothing.commands, nothing.waits, nothing.wake_at) == ([], {}, [])


# --- announcements


def test_each_type_of_the_agenda_is_announced_once():
    agenda = Agenda((TEXT, IMAGE))
    now = plan(State(), START, agenda)
    assert now.commands == [Announce(kind, 1, None, 0, agenda.rules) for kind in (TEXT, IMAGE)]
    assert [c.command_id for c in now.commands] == ["announce/text/1", "announce/image/1"]
    running = Arena(miners(8)).open()
    assert not plan(running.stage.state, START, Agenda((TEXT,))).wants("announce/text/1")
    running.run()
    much_later = running.stage.at + timedelta(days=90)
    over = plan(running.stage.state, much_later, Agenda((TEXT,)))
    assert (over.commands, over.waits, over.wake_at) == ([], {}, [])


def test_an_endless_agenda_announces_the_next_after_the_rest_with_the_champion():
    arena = Arena(miners(8)).open()
    ended = arena.run().completed_at
    assert ended is not None
    agenda, due = Agenda((TEXT,), endless=True), ended + timedelta(hours=72)
    resting = plan(arena.stage.state, due - timedelta(seconds=1), agenda)
    assert (resting.commands, resting.wake_at) == ([], [due])
    assert resting.waits == {"text": f"the next text tournament starts at {due:%F %T} UTC"}
    assert plan(arena.stage.state, due, agenda).commands == [Announce(TEXT, 2, offer("m07"), 1, agenda.rules)]


# --- registration


def test_first_the_miners_are_asked():
    arena = Arena(miners(8)).open()
    now = arena.plan()
    assert now.commands == [AskMiners("text-1", TEXT, 1, frozenset({CHAMPION}))]
    assert now.commands[0].command_id == "ask/text-1/1"
    assert now.waits == {"text-1": "the miners are asked for their repositories"}
    assert now.wants("ask/text-1/1")
    assert not now.wants("ask/text-1/2")


def test_with_enough_entrants_the_draw_seed_is_revealed():
    arena = Arena(miners(8)).open()
    arena.step()
    assert arena.plan().commands == [RevealDrawSeed("text-1")]
    assert ids(arena) == ["reveal-draw/text-1"]


def test_with_too_few_the_others_are_asked_again_after_30_minutes():
    arena = Arena(miners(8), unpaid=["m03"]).open()
    arena.step()
    asked, now = arena.stage.at, arena.plan()
    assert now.commands == []
    assert now.wake_at == [asked + timedelta(minutes=30)]
    assert now.waits == {"text-1": f"7 of 8 entrants: the miners are asked again at {now.wake_at[0]:%H:%M:%S} UTC"}
    early = plan(arena.stage.state, now.wake_at[0] - timedelta(microseconds=1))
    assert early.commands == []
    due = plan(arena.stage.state, now.wake_at[0])
    known = frozenset({CHAMPION, *miners(8)} - {"m03"})
    assert due.commands == [AskMiners("text-1", TEXT, 2, known)]


def test_nothing_is_asked_while_answers_wait_for_their_ruling():
    arena = Arena(miners(8)).open()
    passed = e.RegistrationPassed(tournament_id="text-1", number=1, answers=(offer("m00"),))
    unsettled = evolve(arena.stage.state, passed, START)
    assert plan(unsettled, START + timedelta(days=1)).commands == []


def test_without_a_champion_nobody_is_known_before():
    (command,) = Arena(miners(8), champion=None).open().plan().commands
    assert isinstance(command, AskMiners)
    assert command.known == frozenset()


def test_too_few_of_one_type_do_not_hold_up_the_other():
    stage = Stage()
    Arena(miners(3), stage=stage).open(IMAGE).step()
    text = Arena(miners(8), stage=stage).open()
    while text.tournament.status is not TournamentStatus.COMPLETED:
        assert text.step()
    image = stage.state.tournaments["image-1"]
    assert (image.status, len(image.entrants), image.passes) == (TournamentStatus.PENDING, 3, 1)


# --- preparation


def drawn(arena: Arena) -> Arena:
    arena.open()
    while not arena.tournament.rounds:
        arena.step()
    return arena


def test_every_slot_of_a_drawn_round_is_prepared():
    arena = drawn(Arena(miners(8)))
    commands = arena.plan().commands
    assert all(isinstance(c, PrepareTask) and c.round_type is RoundType.KNOCKOUT and c.slot == 0 for c in commands)
    assert len({c.command_id for c in commands}) == 4
    assert set(arena.plan().waits.values()) == {"its task is prepared"}
    arena.step()
    assert ids(arena) == [c.command_id for c in commands[1:]]


def test_a_failed_preparation_is_repeated_as_a_new_task_and_holds_up_no_other():
    arena = drawn(Arena(miners(8), prepares=lambda command: False))
    first, *others = arena.plan().commands
    assert isinstance(first, PrepareTask)
    arena.do(first)
    now = arena.plan()
    assert now.commands == others
    assert now.wake_at == [arena.stage.at + timedelta(seconds=5)]
    assert now.waits[f"{first.match_id}.0"].startswith("no rows; the preparation is repeated at ")
    (again, *_) = plan(arena.stage.state, now.wake_at[0]).commands
    assert isinstance(again, PrepareTask)
    assert (again.match_id, again.slot) == (first.match_id, first.slot)
    assert again.task_id != first.task_id
    arena.stage.at = now.wake_at[0]
    arena.do(again)
    assert arena.plan().wake_at == [arena.stage.at + timedelta(seconds=10)]


def test_what_could_not_be_had_is_replaced_by_something_of_its_size():
    arena = drawn(Arena(miners(8)))
    first = arena.plan().commands[0]
    assert isinstance(first, PrepareTask)
    assert first.replaces_params is None
    where: dict[str, Any] = {"tournament_id": first.tournament_id, "match_id": first.match_id, "slot": 0}
    for task_id, params in ((first.task_id, 3 * 10**9), ("second", None)):
        failed = e.TaskPreparationFailed(**where, task_id=task_id, reason="no model", model_params=params)
        arena.stage.record(failed)
        arena.stage.at = arena.plan().wake_at[0]
        again = next(c for c in arena.plan().commands if isinstance(c, PrepareTask) and c.match_id == first.match_id)
        assert again.replaces_params == 3 * 10**9, "the last size that is known"


# --- the end


def test_a_completed_tournament_reveals_its_secret_and_then_rests():
    arena = Arena(miners(8)).open()
    while arena.tournament.status is not TournamentStatus.COMPLETED:
        arena.step()
    assert arena.plan().commands == [RevealSecretSeed("text-1")]
    assert ids(arena) == ["reveal-secret/text-1"]
    arena.step()
    assert arena.plan().commands == []


@pytest.mark.parametrize("active", [False, True])
def test_a_cancelled_tournament_is_left_alone(active: bool):
    arena = drawn(Arena(miners(8)))
    if active:
        arena.until_active()
    t = replace(arena.tournament, status=TournamentStatus.CANCELLED)
    state = replace(arena.stage.state, tournaments={t.tournament_id: t})
    assert plan(state, arena.stage.at).commands == []


def test_an_activated_tournament_without_a_round_waits_for_its_draw():
    arena = Arena(miners(8)).open()
    arena.step()
    activated = e.TournamentActivated(tournament_id="text-1", draw_seed="11" * 32)
    assert plan(evolve(arena.stage.state, activated, START), START).commands == []
