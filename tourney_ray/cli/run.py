"""`tourney run`: start the driver, or find it, and follow it to the end of its tournaments."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tourney_ray.cli.follow import follow_to_the_end
from tourney_ray.config import Settings, load_settings
from tourney_ray.core.state import State
from tourney_ray.report.document import Document, tournament_document

if TYPE_CHECKING:
    from tourney_ray.driver.client import DriverClient


def run_tournaments(path: Path, address: str | None, detach: bool, as_json: bool) -> None:
    """Run what `path` says. Interrupting it leaves the driver at work; running it again follows the same driver."""
    from tourney_ray.driver.capacity import check_capacity
    from tourney_ray.driver.client import connection, start
    from tourney_ray.driver.evaluator import check_evaluator
    from tourney_ray.driver.task_source import check_tasks
    from tourney_ray.driver.work import check_playable, check_registry

    settings = load_settings(path)
    check_playable(settings)
    check_evaluator(settings)
    check_registry(settings)
    check_tasks(settings)
    check_capacity(settings)
    began = time.monotonic()
    with connection(address or settings.cluster.address, divert=as_json, tournament=settings.name):
        driver = start(settings)
        click.echo(f"driver {settings.name} runs; its journal is in {settings.state}", err=True)
        state = None if detach else _follow(driver, settings, as_json)
    if state and as_json:
        click.echo(json.dumps(documents(state, settings, time.monotonic() - began), indent=2))


def documents(state: State, settings: Settings, wall_s: float) -> Document | list[Document]:
    """The document of the only tournament, or a list of all; paths in it are taken from `data`."""
    extra = {"wall_s": round(wall_s, 3), "out": str(settings.state), "data": str(settings.data)}
    all_of_them = [tournament_document(t, state) | extra for t in state.tournaments.values()]
    return all_of_them[0] if len(all_of_them) == 1 else all_of_them


def _follow(driver: DriverClient, settings: Settings, as_json: bool) -> State:
    try:
        return follow_to_the_end(driver, settings, to_stderr=as_json)
    except KeyboardInterrupt:
        again = f"run this again to follow it, `tourney stop --name {settings.name}` ends it"
        click.echo(f"the driver goes on; {again}", err=True)
        raise
