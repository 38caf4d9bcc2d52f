"""Work that should be running: level-triggered, so that replay and plan are the whole recovery."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import CHAMPION, CLUSTER, START, Stage, miners, offer
from tests.core.arena import CRASH, NODE_LOST, Arena, trained
from tourney_ray.core import events as e
from tourney_ray.core.commands import (
    Announce,
    AskMiners,
    Evaluate,
    PrepareTask,
    RevealDrawSeed,
    RevealSecretSeed,
    Train,
)
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import RoundType, TournamentStatus, TournamentType, TrainingStatus
from tourney_ray.core.placement import Cluster, Node
from tourney_ray.core.plan import plan
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import State

ONE_GPU = Cluster((Node("n1", {"H100": 1}),))
ONE_NODE = Cluster((Node("n1", {"H100": 8}),))
TEXT, IMAGE = TournamentType.TEXT, TournamentType.IMAGE


def ids(arena: Arena) -> list[str]:
    return [command.command_id for command in arena.plan().commands]


def test_nothing_is_planned_for_nobody():
    nothing = plan(State(), CLUSTER, START)
    assert (nothing.commands, nothing.waits, nothing.wake_at) == ([], {}, [])


# --- announcements


def test_each_type_of_the_agenda_is_announced_once():
    agenda = Agenda((TEXT, IMAGE))
    now = plan(State(), CLUSTER, START, agenda)
    assert now.commands == [Announce(kind, 1, None, 0, agenda.rules) for kind in (TEXT, IMAGE)]
    assert [c.command_id for c in now.commands] == ["announce/text/1", "announce/image/1"]
    running = Arena(miners(8)).open()
    assert not plan(running.stage.state, CLUSTER, START, Agenda((TEXT,))).wants("announce/text/1")
    running.run()
    much_later = running.stage.at + timedelta(days=90)
    over = plan(running.stage.state, CLUSTER, much_later, Agenda((TEXT,)))
    assert (over.commands, over.waits, over.wake_at) == ([], {}, [])


def test_an_endless_agenda_announces_the_next_after_the_rest_with_the_champion():
    arena = Arena(miners(8)).open()
    ended = arena.run().completed_at
    assert ended is not None
    agenda, due = Agenda((TEXT,), endless=True), ended + timedelta(hours=72)
    resting = plan(arena.stage.state, CLUSTER, due - timedelta(seconds=1), agenda)
    assert (resting.commands, resting.wake_at) == ([], [due])
    assert resting.waits == {"text": f"the next text tournament starts at {due:%F %T} UTC"}
    assert plan(arena.stage.state, CLUSTER, due, agenda).commands == [Announce(TEXT, 2, offer("m07"), 1, agenda.rules)]


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
    early = plan(arena.stage.state, CLUSTER, now.wake_at[0] - timedelta(microseconds=1))
    assert early.commands == []
    due = plan(arena.stage.state, CLUSTER, now.wake_at[0])
    known = frozenset({CHAMPION, *miners(8)} - {"m03"})
    assert due.commands == [AskMiners("text-1", TEXT, 2, known)]


def test_nothing_is_asked_while_answers_wait_for_their_ruling():
    arena = Arena(miners(8)).open()
    passed = e.RegistrationPassed(tournament_id="text-1", number=1, answers=(offer("m00"),))
    unsettled = evolve(arena.stage.state, passed, START)
    assert plan(unsettled, CLUSTER, START + timedelta(days=1)).commands == []


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
    (again, *_) = plan(arena.stage.state, CLUSTER, now.wake_at[0]).commands
    assert isinstance(again, PrepareTask)
    assert (again.match_id, again.slot) == (first.match_id, first.slot)
    assert again.task_id != first.task_id
    arena.stage.at = now.wake_at[0]
    arena.do(again)
    assert arena.plan().wake_at == [arena.stage.at + timedelta(seconds=10)]


# --- trainings


def test_planning_twice_is_planning_once():
    arena = Arena(miners(9), cluster=ONE_GPU).open()
    while arena.plan().commands:
        assert arena.plan() == arena.plan()
        arena.step()


def test_after_the_intent_the_same_command_stays_without_it():
    arena = Arena(miners(8)).open().until_active()
    before = arena.plan().commands[0]
    assert isinstance(before, Train)
    assert before.intent is not None
    assert before.command_id == f"train/{before.spec.attempt_id}"
    arena.do(before)
    (after,) = [c for c in arena.plan().commands if c.command_id == before.command_id]
    assert after == replace(before, intent=None)


def test_a_command_says_all_that_a_trainer_needs():
    arena = Arena(miners(8)).open().until_active()
    command = arena.plan().commands[0]
    assert isinstance(command, Train)
    assert command.intent is not None
    spec, task = command.spec, arena.tournament.tasks[command.spec.task_id]
    frozen = offer(spec.hotkey)
    assert (spec.repo, spec.commit, spec.tree_hash) == (frozen.repo, frozen.commit, frozen.tree_hash)
    assert (spec.data, spec.hours_to_complete, spec.gpu_requirement) == (task.data, task.hours, task.gpu_requirement)
    assert spec.expected_repo_name == f"tournament-text-1-{task.task_id}-{spec.hotkey}"
    assert (command.intent.gpu_type, command.intent.gpus) == (spec.gpu_requirement.gpu_type, spec.gpu_requirement.gpus)
    assert (command.intent.epoch, command.intent.node) == (1, command.node)


def test_who_waits_for_a_gpu_has_a_reason_and_comes_when_one_is_free():
    arena = Arena(miners(16), cluster=ONE_GPU).open().until_active()
    assert len(arena.plan().commands) == 1
    assert set(arena.plan().waits.values()) == {"needs 1×H100 on one node: all are leased"}
    arena.step()
    assert len(arena.plan().commands) == 1
    arena.step()
    assert [type(c) for c in arena.plan().commands] == [Evaluate, Train]


def test_an_ended_attempt_is_not_wanted_any_more():
    arena = Arena(miners(8)).open().until_active()
    command = arena.plan().commands[0]
    arena.do(command)
    arena.do(arena.plan().commands[0])
    assert not arena.plan().wants(command.command_id)


def test_a_crash_is_repeated_at_once_with_a_new_id_and_the_second_is_the_last():
    arena = Arena(miners(16), cluster=ONE_GPU, trains=lambda spec: CRASH).open().until_active()
    first = arena.plan().commands[0]
    assert isinstance(first, Train)
    for epoch in (1, 2):
        (command,) = [c for c in arena.plan().commands if isinstance(c, Train) and c.spec.hotkey == first.spec.hotkey]
        assert command.spec.epoch == epoch
        arena.do(command)
        arena.do(replace(command, intent=None))
    assert arena.plan().waits[f"{first.spec.task_id}.{first.spec.hotkey}"] == (
        "failed; the task's other entrants are not done"
    )


@pytest.mark.parametrize("faults", [1, 2, 3, 12])
def test_a_fault_of_the_platform_is_retried_after_a_pause_that_doubles(faults: int):
    arena = Arena(miners(8), cluster=ONE_GPU, trains=lambda spec: NODE_LOST).open().until_active()
    first = arena.plan().commands[0]
    assert isinstance(first, Train)
    key, pause = f"{first.spec.task_id}.{first.spec.hotkey}", timedelta()
    for _ in range(faults):
        (command,) = [c for c in arena.plan().commands if isinstance(c, Train) and c.spec.hotkey == first.spec.hotkey]
        arena.do(command)
        arena.do(replace(command, intent=None))
        due = arena.tournament.tasks[first.spec.task_id].trainings[first.spec.hotkey].not_before
        assert due is not None
        now = arena.plan()
        assert due in now.wake_at
        assert now.waits[key] == f"n1 went away; tried again at {due:%H:%M:%S} UTC"
        pause, arena.stage.at = due - arena.stage.at, due
        assert key not in {k for k, why in arena.plan().waits.items() if "tried again" in why}
    assert pause == timedelta(seconds=min(5 * 2 ** (faults - 1), 1800))
    assert arena.tournament.tasks[first.spec.task_id].trainings[first.spec.hotkey].status is TrainingStatus.PENDING


# --- evaluations


def test_a_finished_training_is_evaluated():
    arena = Arena(miners(16), cluster=ONE_GPU).open().until_active()
    arena.step()
    arena.step()
    command = arena.plan().commands[0]
    assert isinstance(command, Evaluate)
    task = arena.tournament.tasks[command.task_id]
    assert (command.number, command.failures, command.data, command.task_type) == (1, 0, task.data, task.task_type)
    assert command.checkpoint == f"out/{command.attempt_id}"
    assert command.command_id == f"evaluate/{command.attempt_id}/1/0"
    arena.do(command)
    assert arena.plan().waits[f"{command.task_id}.{command.hotkey}"] == (
        "evaluated; the task's other entrants are not done"
    )


def test_a_failing_evaluator_is_retried_as_a_new_command_after_a_pause():
    arena = Arena(miners(16), cluster=ONE_GPU, measures=lambda command: None).open().until_active()
    arena.step()
    arena.step()
    command = arena.plan().commands[0]
    assert isinstance(command, Evaluate)
    arena.do(command)
    now = arena.plan()
    assert not now.wants(command.command_id)
    assert now.wake_at == [arena.stage.at + timedelta(seconds=5)]
    again = plan(arena.stage.state, ONE_GPU, now.wake_at[0])
    assert again.wants(f"evaluate/{command.attempt_id}/1/1")


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
    assert plan(state, CLUSTER, arena.stage.at).commands == []


def test_an_activated_tournament_without_a_round_waits_for_its_draw():
    arena = Arena(miners(8)).open()
    arena.step()
    activated = e.TournamentActivated(tournament_id="text-1", draw_seed="11" * 32)
    assert plan(evolve(arena.stage.state, activated, START), CLUSTER, START).commands == []


def test_every_training_that_is_not_done_is_commanded_or_has_a_reason():
    arena = Arena(miners(12), cluster=replace(ONE_NODE, max_trainers=2))
    arena.trains = lambda spec: NODE_LOST if spec.epoch == 1 else trained(spec)
    arena.open()
    while arena.step():
        now = arena.plan()
        commanded = {(c.spec.task_id, c.spec.hotkey) for c in now.commands if isinstance(c, Train)}
        commanded |= {(c.task_id, c.hotkey) for c in now.commands if isinstance(c, Evaluate)}
        for task in arena.tournament.tasks.values():
            for hotkey in task.trainings if task.decided is None else ():
                assert ((task.task_id, hotkey) in commanded) != (f"{task.task_id}.{hotkey}" in now.waits)
    assert arena.tournament.status is TournamentStatus.COMPLETED
