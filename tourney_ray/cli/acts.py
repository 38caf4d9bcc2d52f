"""`tourney cancel`, `retry`, `reopen`, `fence`: what people do to a running tournament, each with name and reason."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tourney_ray.errors import NotAllowed, NotFound

if TYPE_CHECKING:
    from tourney_ray.driver.client import DriverClient

F = TypeVar("F", bound=Callable[..., Any])

FEES = "SELECT count(*) AS n FROM charges WHERE refunded_at IS NULL AND tournament_id = '{}'"
TRAININGS = """
    SELECT tasks.tournament_id, tasks.task_id, unnest(matches.entrants) AS hotkey
    FROM tasks JOIN matches USING (match_id) JOIN tournaments ON tournaments.tournament_id = tasks.tournament_id
    WHERE tournaments.status = 'active' AND tasks.prepared_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training stands."""

    tournament_id: str
    task_id: str
    hotkey: str


def _options(function: F) -> F:
    """What every act asks for: a driver, a name and a reason."""
    for option in (
        click.option("--name", default="tourney", show_default=True, help="Name of the driver."),
        click.option("--address", default="auto", show_default=True, help="Ray cluster."),
        click.option("--reason", required=True, callback=_words, help="Why; recorded for everybody to read."),
        click.option("--by", default=None, callback=_login, help="Who does it; default: your login name."),
    ):
        function = option(function)
    return function


def _words(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if not text.strip():
        raise click.BadParameter("say why: it is recorded, and shown to whom it concerns")
    return " ".join(text.split())


def _login(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str:
    try:
        name = getpass.getuser() if name is None else name
    except (ImportError, KeyError, OSError):
        name = ""
    if not name.strip():
        raise click.BadParameter("say who you are: it is recorded")
    return " ".join(name.split())


@click.command()
@_options
@click.option("--yes", is_flag=True, help="Do not ask whether you are sure.")
@click.argument("tournament")
def cancel(tournament: str, yes: bool, by: str, reason: str, address: str, name: str) -> None:
    """End a TOURNAMENT for good and give every fee back. What trains for it is stopped, and nobody wins."""
    from tourney_ray.core.events import TournamentCancelled
    from tourney_ray.driver.client import connection, find

    with connection(address):
        driver = find(name)
        if not yes and _is_terminal():
            _ask(driver, tournament)
        act = TournamentCancelled(tournament_id=tournament, by=by, because=reason)
        seq = driver.act(act)
        refunds = _following(driver, seq, "Refunded")
    click.echo(f"fact {seq}: {tournament} is cancelled by {by}: {reason}; {_counted(refunds, 'fee')} refunded")


@click.command()
@_options
@click.argument("task")
@click.argument("hotkey")
def retry(task: str, hotkey: str, by: str, reason: str, address: str, name: str) -> None:
    """Have a training that runs or waits begin anew at once. TASK may be the beginning of its id."""
    from tourney_ray.core.events import TrainingRetried
    from tourney_ray.driver.client import connection, find

    with connection(address):
        driver = find(name)
        place = _find_training(driver, task, hotkey)
        where, task, hotkey = place.tournament_id, place.task_id, place.hotkey
        seq = driver.act(TrainingRetried(tournament_id=where, task_id=task, hotkey=hotkey, by=by, because=reason))
    follows = "what runs of it is stopped, it starts anew as soon as GPUs are free, and no attempt is charged"
    click.echo(f"fact {seq}: {hotkey} retries task {task}, by {by}: {reason}; {follows}")


@click.command()
@_options
@click.argument("task")
@click.argument("hotkey")
def reopen(task: str, hotkey: str, by: str, reason: str, address: str, name: str) -> None:
    """Give a training that is over another chance, before its task is decided. TASK may be the beginning of its id."""
    from tourney_ray.core.events import TrainingReopened
    from tourney_ray.driver.client import connection, find

    with connection(address):
        driver = find(name)
        place = _find_training(driver, task, hotkey)
        where, task, hotkey = place.tournament_id, place.task_id, place.hotkey
        seq = driver.act(TrainingReopened(tournament_id=where, task_id=task, hotkey=hotkey, by=by, because=reason))
    follows = "if it had failed it trains anew with all its attempts, else its checkpoint is evaluated once more"
    click.echo(f"fact {seq}: {hotkey}'s task {task} is reopened by {by}: {reason}; {follows}")


@click.command()
@_options
@click.argument("node")
def fence(node: str, by: str, reason: str, address: str, name: str) -> None:
    """Vouch that nothing runs on a lost NODE any more, so that what it held is free."""
    from tourney_ray.core.events import NodeFenced
    from tourney_ray.driver.client import connection, find

    with connection(address):
        driver = find(name)
        seq = driver.act(NodeFenced(node=node, by=by, because=reason))
        ends = _following(driver, seq, "LeaseEnded")
    click.echo(f"fact {seq}: {node} is fenced by {by}: {reason}; {_counted(ends, 'lease')} ended")


def resolve(trainings: Iterable[Place], task: str, hotkey: str) -> Place:
    """The training of `hotkey` in the only task whose id is or begins with `task`.

    Raises `NotFound` with the candidates when there is none, or more than one task.
    """
    from tourney_ray.driver.acts import some

    places = list(trainings)
    ids = sorted({place.task_id for place in places})
    fitting = [task] if task in ids else [task_id for task_id in ids if task and task_id.startswith(task)]
    if not fitting:
        raise NotFound(f"no task of an active tournament is {task}", f"there are: {some(ids)}")
    if len(fitting) > 1:
        raise NotFound(f"{task} is the beginning of {len(fitting)} tasks", f"it may be: {some(fitting)}")
    of_task = [place for place in places if place.task_id == fitting[0]]
    found = [place for place in of_task if place.hotkey == hotkey]
    if not found:
        hotkeys = some([place.hotkey for place in of_task])
        raise NotFound(f"{hotkey} does not train task {fitting[0]}", f"those who do: {hotkeys}")
    return found[0]


def _find_training(driver: DriverClient, task: str, hotkey: str) -> Place:
    return resolve([Place(**row) for row in driver.query(TRAININGS).to_pylist()], task, hotkey)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _ask(driver: DriverClient, tournament: str) -> None:
    """Have the person confirm; raises `NotAllowed` when it does not."""
    ((fees,),) = [row.values() for row in driver.query(FEES.format(tournament.replace("'", "''"))).to_pylist()]
    question = f"End {tournament} for good and give {_counted(fees, 'fee')} back? It cannot be undone."
    if not click.confirm(question, err=True):
        raise NotAllowed("not cancelled, as you said", "nothing was recorded")


def _following(driver: DriverClient, seq: int, kind: str) -> int:
    """How many facts of that kind the act forced: they stand right behind it."""
    kinds = [entry.kind for entry in driver.call("follow", seq, 0.0).entries]
    return len(list(takewhile(lambda each: each == kind, kinds)))


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
