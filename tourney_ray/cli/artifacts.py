"""`tourney checkout` and `tourney provenance`: what is kept of trainings, for people, checked to the last byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tourney_ray.cli import whereabouts
from tourney_ray.errors import AuditDifference, NotAllowed, NotFound

if TYPE_CHECKING:
    from tourney_ray.cli.whereabouts import Whereabouts
    from tourney_ray.core.state import State
    from tourney_ray.effects.provenance import Provenance

ATTEMPT = "SELECT coalesce(provenance, ''), coalesce(checkpoint, ''), status FROM attempts WHERE attempt_id = '{}'"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What the journal says of an attempt."""

    provenance: str
    checkpoint: str
    status: str


@click.command()
@whereabouts.options
@click.argument("digest")
@click.argument("target", type=click.Path(path_type=Path))
def checkout(path: Path | None, address: str | None, name: str | None, digest: str, target: Path) -> None:
    """Copy the kept folder DIGEST, a checkpoint or logs, to TARGET, a new folder; every byte of it is checked."""
    from tourney_ray.driver.folders import artifact_store
    from tourney_ray.effects.manifest import digest_of

    try:
        wanted = digest_of(digest)
    except ValueError as error:
        raise NotFound(str(error), "`tourney query` has them: SELECT attempt_id, checkpoint FROM attempts") from error
    if target.exists() or target.is_symlink():
        raise NotAllowed(f"{target} is there already", "name a folder that is new")
    store = artifact_store(whereabouts.settings_of(path, address, name))
    if not store.has(wanted):
        raise NotFound(
            f"{wanted} is not in {store.uri}", "it was removed as old, it lies on another node, or it was never kept"
        )
    click.echo(store.checkout(wanted, target.absolute(), share=False))


@click.command()
@whereabouts.options
@click.argument("attempt_id")
def provenance(path: Path | None, address: str | None, name: str | None, attempt_id: str) -> None:
    """Print the record of where an attempt's output comes from, as JSON; held against what the journal says."""
    from tourney_ray.driver.folders import artifact_store
    from tourney_ray.effects.manifest import digest_of
    from tourney_ray.effects.provenance import load

    with whereabouts.found(path, address, name) as where:
        attempt = _attempt(where, attempt_id)
        settings = where.settings
    if attempt is None:
        raise NotFound(f"there is no attempt {attempt_id}", "`tourney query` has them: SELECT attempt_id FROM attempts")
    if not attempt.provenance:
        why = "it goes on" if attempt.status == "training" else "it ended where none was kept"
        raise NotFound(f"there is no record of attempt {attempt_id}: {why}")
    record = load(artifact_store(settings), digest_of(attempt.provenance))
    _check(record, attempt_id, attempt)
    click.echo(record.model_dump_json(indent=2, ensure_ascii=True))


def _attempt(where: Whereabouts, attempt_id: str) -> _Attempt | None:
    if where.driver is None:
        return _recorded(whereabouts.recorded(where.settings), attempt_id)
    rows = where.driver.query(ATTEMPT.format(attempt_id.replace("'", "''"))).to_pylist()
    return _Attempt(*(str(value) for value in rows[0].values())) if rows else None


def _recorded(state: State, attempt_id: str) -> _Attempt | None:
    from tourney_ray.core.models import Trained

    trainings = (tr for t in state.tournaments.values() for task in t.tasks.values() for tr in task.trainings.values())
    attempt = next((a for training in trainings for a in training.attempts if a.attempt_id == attempt_id), None)
    if attempt is None:
        return None
    checkpoint = attempt.outcome.checkpoint if isinstance(attempt.outcome, Trained) else ""
    return _Attempt(attempt.outcome.provenance if attempt.outcome else "", checkpoint, attempt.status.value)


def _check(record: Provenance, attempt_id: str, attempt: _Attempt) -> None:
    """Raise `AuditDifference` unless the record is of that attempt and of what the journal says it left."""
    if record.attempt_id != attempt_id:
        raise AuditDifference(f"the record that the journal names for {attempt_id} is of attempt {record.attempt_id}")
    if record.left.output != attempt.checkpoint.removeprefix("sha256:"):
        left, said = record.left.output or "nothing", attempt.checkpoint or "nothing"
        raise AuditDifference(f"attempt {attempt_id} left {left} by its record, and {said} by the journal")
