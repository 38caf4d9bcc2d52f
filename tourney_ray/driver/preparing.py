"""Preparing tasks: when they are due, and those of the next round while the entrants of this one train.

Nothing of what is done ahead is recorded, and a task is the same whenever it is prepared: what was not foreseen, or
failed, is done when it is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tourney_ray.core import events as e
from tourney_ray.core.commands import PrepareTask
from tourney_ray.core.foresight import foreseen_tasks
from tourney_ray.core.models import TaskData
from tourney_ray.core.preparation import prepared_from_history, task_prepared, task_request
from tourney_ray.core.state import State, Tournament
from tourney_ray.core.tasks import TaskRequest

Make = Callable[[PrepareTask, TaskRequest], Awaitable[TaskData]]


class Preparing:
    """Has tasks made by `make`; `secret` is the secret seed of a tournament."""

    def __init__(self, state: Callable[[], State], secret: Callable[[Tournament], str], make: Make) -> None:
        self._state = state
        self._secret = secret
        self._make = make
        self._rounds: dict[str, int] = {}
        """How many rounds each tournament had when it was last looked at."""
        self._begun: dict[str, asyncio.Task[TaskData | None]] = {}
        """What is made, or was made, ahead, by the task's id."""

    def look_ahead(self, tournament_id: str) -> None:
        """Begin with the tasks after the tournament's last round, unless that was done."""
        t = self._state().tournaments.get(tournament_id)
        if t is None or self._rounds.get(tournament_id) == len(t.rounds):
            return
        self._rounds[tournament_id] = len(t.rounds)
        for command in foreseen_tasks(t):
            begun = asyncio.get_running_loop().create_task(self._made_ahead(command))
            begun.add_done_callback(_look_at_its_end)
            self._begun[command.task_id] = begun

    async def facts(self, command: PrepareTask) -> tuple[e.Fact, ...]:
        """That the task has its data, prepared by now or ahead; raises what making it raises."""
        t = self._state().tournaments[command.tournament_id]
        secret = self._secret(t)
        if repeated := prepared_from_history(self._state(), command, secret):
            return (repeated,)
        request = task_request(t, command, secret)
        return (task_prepared(t, command, request.task_type, await self._data(command), secret),)

    async def _data(self, command: PrepareTask) -> TaskData:
        begun = self._begun.pop(command.task_id, None)
        if begun is not None:
            await asyncio.wait([begun])
            if begun.exception() is None and (data := begun.result()) is not None:
                return data
        return await self._made(command)

    async def _made_ahead(self, command: PrepareTask) -> TaskData | None:
        """None of a task that will repeat a past one: there is nothing to make."""
        secret = self._secret(self._state().tournaments[command.tournament_id])
        return None if prepared_from_history(self._state(), command, secret) else await self._made(command)

    async def _made(self, command: PrepareTask) -> TaskData:
        t = self._state().tournaments[command.tournament_id]
        return await self._make(command, task_request(t, command, self._secret(t)))


def _look_at_its_end(begun: asyncio.Task[TaskData | None]) -> None:
    """So that a failure which nobody asks about is no error: the task would have been tried again."""
    if not begun.cancelled():
        begun.exception()
