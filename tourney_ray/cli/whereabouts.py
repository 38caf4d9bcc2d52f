"""Which tournament a command is about: that of a running driver, or that of a settings file on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tourney_ray.config import Settings, load_settings
from tourney_ray.errors import UserError

if TYPE_CHECKING:
    from tourney_ray.core.state import State
    from tourney_ray.driver.client import DriverClient

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The settings, and the driver that runs with them."""

    settings: Settings
    driver: DriverClient | None
    why_none: str = ""
    """Why no driver was found."""


def options(function: F) -> F:
    """How a person names it."""
    for option in (
        click.option("--name", default=None, help="Name of the driver; default: the file's, else tourney."),
        click.option("--address", default=None, help="Ray cluster; default: the file's, else the one of this machine."),
        click.option(
            "--settings",
            "path",
            type=click.Path(path_type=Path),
            default=None,
            help="The tournament's file: then no driver needs to run.",
        ),
    ):
        function = option(function)
    return function


@contextlib.contextmanager
def found(path: Path | None, address: str | None, name: str | None) -> Generator[Whereabouts]:
    """The tournament of the settings file at `path` with its driver, if that runs; without a file, of the driver.

    The settings of a running driver go before those of the file.

    Raises `UserError` where there is neither. Connected to the cluster as long as the context lasts.
    """
    from tourney_ray.driver.client import connection, find

    settings = load_settings(path) if path else None
    with contextlib.ExitStack() as connected:
        try:
            connected.enter_context(connection(address or (settings.cluster.address if settings else "auto")))
            driver = find(name or (settings.name if settings else "tourney"))
            running: Settings = driver.call("settings")
            where = Whereabouts(running, driver)
            if settings and running.state != settings.state:
                where = Whereabouts(settings, None, f"the driver {driver.name} is at work in {running.state}")
        except UserError as nobody:
            if settings is None:
                raise
            where = Whereabouts(settings, None, nobody.message)
        yield where


def settings_of(path: Path | None, address: str | None, name: str | None) -> Settings:
    """The settings in the file at `path`; without one, those that a driver was started with. Raises `UserError`."""
    if path:
        return load_settings(path)
    with found(None, address, name) as where:
        return where.settings


def recorded(settings: Settings) -> State:
    """The state that the journal on this machine tells of; whatever it cannot be read for is raised as the audit does.

    A note for people goes to stderr, such as that a driver is at work on it.
    """
    from tourney_ray.core.evolve import evolve
    from tourney_ray.core.state import State
    from tourney_ray.store.sources import open_source

    source = open_source(settings.state)
    if source.note:
        click.echo(f"note: {source.note}", err=True)
    state = State()
    for entry in source.entries:
        state = evolve(state, entry.fact, entry.at)
    return state
