"""Following a driver: its facts are replayed here, so every view is a function of the same state that it decides on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tourney_ray.cli.render import finale, view
from tourney_ray.config import Settings
from tourney_ray.core.evolve import evolve
from tourney_ray.core.models import TournamentStatus
from tourney_ray.core.state import State
from tourney_ray.errors import Defect

if TYPE_CHECKING:
    from tourney_ray.driver.actor import Update
    from tourney_ray.driver.client import DriverClient


def follow_to_the_end(driver: DriverClient, settings: Settings, to_stderr: bool) -> State:
    """Show what happens until every tournament of the agenda is over; the state then.

    Raises `Defect` when the driver halted; never returns in an endless agenda.
    """
    state = State()
    with view(to_stderr) as show:
        for update, state in replayed(driver):
            show(update.entries, state, update.waits, update.problems)
            if update.halted:
                raise Defect(f"the driver halted: {update.halted}", "its journal is intact: run `tourney audit` on it")
            if not settings.endless and over(state, settings):
                break
    finale(state, settings, to_stderr)
    return state


def replayed(driver: DriverClient) -> Iterator[tuple[Update, State]]:
    """Each update of the driver with the state after it."""
    state = State()
    for update in driver.follow():
        for entry in update.entries:
            state = evolve(state, entry.fact, entry.at)
        yield update, state


def over(state: State, settings: Settings) -> bool:
    """Whether a tournament of each type is completed, its secret seed revealed, or cancelled."""
    ended = [t for t in state.tournaments.values() if t.secret_seed or t.status is TournamentStatus.CANCELLED]
    done = {t.tournament_type for t in ended}
    return done >= set(settings.types) and not any(
        t.status in (TournamentStatus.PENDING, TournamentStatus.ACTIVE) for t in state.tournaments.values()
    )
