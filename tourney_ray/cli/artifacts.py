"""`tourney checkout` and `tourney provenance`: what is kept of trainings, for people, checked to the last byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tourney_ray.cli import whereabouts
from tourney_ray.cli.attempts import TRAINING, Recorded, recorded_attempt
from tourney_ray.errors import AuditDifference, NotAllowed, NotFound

if TYPE_CHECKING:
    from tourney_ray.effects.provenance import Provenance


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
        attempt = recorded_attempt(where, attempt_id)
        settings = where.settings
    if not attempt.provenance:
        why = "it goes on" if attempt.status == TRAINING else "it ended where none was kept"
        raise NotFound(f"there is no record of attempt {attempt_id}: {why}")
    record = load(artifact_store(settings), digest_of(attempt.provenance))
    _check(record, attempt_id, attempt)
    click.echo(record.model_dump_json(indent=2, ensure_ascii=True))


def _check(record: Provenance, attempt_id: str, attempt: Recorded) -> None:
    """Raise `AuditDifference` unless the record is of that attempt and of what the journal says it left."""
    if record.attempt_id != attempt_id:
        raise AuditDifference(f"the record that the journal names for {attempt_id} is of attempt {record.attempt_id}")
    if record.left.output != attempt.checkpoint.removeprefix("sha256:"):
        left, said = record.left.output or "nothing", attempt.checkpoint or "nothing"
        raise AuditDifference(f"attempt {attempt_id} left {left} by its record, and {said} by the journal")
