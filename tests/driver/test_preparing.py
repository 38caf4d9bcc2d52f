"""Tasks are prepared ahead while a round trains, and only once; what failed ahead is done again when it is due."""

from __future__ import annotations

import asyncio

from tests.builders import SECRET_SEED, data, play
from tourney_ray.core import events as e
from tourney_ray.core.commands import PrepareTask
from tourney_ray.core.evolve import evolve
from tourney_ray.core.foresight import foreseen_tasks
from tourney_ray.core.models import TaskData
from tourney_ray.core.state import State
from tourney_ray.core.tasks import TaskRequest
from tourney_ray.driver.preparing import Preparing
from tourney_ray.errors import PlatformFault


class Making:
    """Makes tasks, or fails at first where a test says so."""

    def __init__(self, failures: int = 0) -> None:
        self.made: list[str] = []
        self._failures = failures

    async def __call__(self, command: PrepareTask, request: TaskRequest) -> TaskData:
        self.made.append(command.task_id)
        if len(self.made) <= self._failures:
            raise PlatformFault("the disk is full")
        return data(params=int(request.model_range_b[0] * 1e9))


def in_first_round() -> tuple[State, str]:
    """Eight entrants whose first round is active, and their tournament."""
    played, state = play(8), State()
    for fact, at in played.facts:
        state = evolve(state, fact, at)
        if isinstance(fact, e.RoundActivated):
            break
    return state, played.tournament_id


async def test_what_was_made_ahead_is_not_made_again() -> None:
    state, tournament_id = in_first_round()
    making = Making()
    preparing = Preparing(lambda: state, lambda _: SECRET_SEED, making)
    preparing.look_ahead(tournament_id)
    preparing.look_ahead(tournament_id)
    foreseen = foreseen_tasks(state.tournaments[tournament_id])
    facts = [await preparing.facts(command) for command in foreseen]
    assert making.made == [command.task_id for command in foreseen]
    assert [fact.task_id for (fact,) in facts if isinstance(fact, e.TaskPrepared)] == making.made


async def test_a_failure_ahead_is_tried_again_when_the_task_is_due() -> None:
    state, tournament_id = in_first_round()
    making = Making(failures=2)
    preparing = Preparing(lambda: state, lambda _: SECRET_SEED, making)
    preparing.look_ahead(tournament_id)
    first, second = foreseen_tasks(state.tournaments[tournament_id])
    (fact,) = await preparing.facts(first)
    assert isinstance(fact, e.TaskPrepared)
    assert making.made == [first.task_id, second.task_id, first.task_id]


async def test_what_was_not_foreseen_is_made_when_it_is_due() -> None:
    state, tournament_id = in_first_round()
    making = Making()
    preparing = Preparing(lambda: state, lambda _: SECRET_SEED, making)
    first, _ = foreseen_tasks(state.tournaments[tournament_id])
    (fact,) = await preparing.facts(first)
    assert isinstance(fact, e.TaskPrepared)
    assert fact.data.model_params == 100_000_000
    assert making.made == [first.task_id]


async def test_without_its_seeds_nothing_is_made_ahead_and_nothing_breaks() -> None:
    state, tournament_id = in_first_round()
    making, seeds = Making(), [PlatformFault("the seeds are gone")] * 2

    def secret(_: object) -> str:
        if seeds:
            raise seeds.pop()
        return SECRET_SEED

    preparing = Preparing(lambda: state, secret, making)
    preparing.look_ahead(tournament_id)
    await asyncio.sleep(0)
    first, _ = foreseen_tasks(state.tournaments[tournament_id])
    (fact,) = await preparing.facts(first)
    assert isinstance(fact, e.TaskPrepared)
    assert making.made == [first.task_id]
