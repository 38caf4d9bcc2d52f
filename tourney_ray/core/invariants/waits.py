"""Invariant 12: whatever is not finished either has its work under way or says what it waits for."""

from __future__ import annotations

from collections.abc import Iterator

from tourney_ray.core.commands import Evaluate, Release, Stage, Train
from tourney_ray.core.models import RoundStatus, TournamentStatus
from tourney_ray.core.plan import Plan
from tourney_ray.core.state import Round, State, Tournament
from tourney_ray.core.tasks import slots


def unexplained(state: State, plan: Plan) -> list[str]:
    """What neither runs nor waits for anything that the plan names: tournaments, task slots, trainings, leases."""
    working = {_key(command) for command in plan.commands if isinstance(command, Stage | Train | Evaluate)}
    releasing = {c.spec.attempt_id for c in plan.commands if isinstance(c, Release | Train)}
    known = {key for key, reason in plan.waits.items() if reason} | working
    lost = [key for t in state.live() for key in _unfinished(t) if key not in known]
    about_tournaments = {getattr(command, "tournament_id", "") for command in plan.commands}
    idle = [key for key in lost if key not in about_tournaments]
    held = [f"lease.{i}" for i in state.leases if f"lease.{i}" not in known and i not in releasing]
    return [*idle, *held]


def _unfinished(t: Tournament) -> Iterator[str]:
    last = t.round
    if t.status is TournamentStatus.PENDING or last is None:
        yield t.tournament_id
    elif last.status is RoundStatus.PENDING:
        yield from _slots(t, last)
    elif last.status is RoundStatus.ACTIVE:
        yield from _trainings(t, last)
    else:
        yield t.tournament_id


def _slots(t: Tournament, drawn: Round) -> Iterator[str]:
    for match in drawn.matches.values():
        yield from (
            f"{match.match_id}.{slot}"
            for slot in range(slots(t.tournament_type, drawn.round_type, t.rules))
            if slot not in match.tasks
        )


def _trainings(t: Tournament, active: Round) -> Iterator[str]:
    for match in active.matches.values():
        for task in (t.tasks[task_id] for task_id in match.tasks.values()):
            if task.decided is None:
                yield from (f"{task.task_id}.{hotkey}" for hotkey in task.trainings)


def _key(command: Stage | Train | Evaluate) -> str:
    where = command if isinstance(command, Evaluate) else command.spec
    return f"{where.task_id}.{where.hotkey}"
