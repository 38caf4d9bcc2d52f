"""`tourney audit`: nobody has to believe the operator."""

from __future__ import annotations

from pathlib import Path

import click

from tourney_ray.report.audit import audit
from tourney_ray.store.sources import open_source


def run_audit(journal: Path) -> None:
    """Print what was recomputed; raises `AuditDifference` (exit 1) at the first difference."""
    source = open_source(journal)
    if source.note:
        click.echo(f"note: {source.note}", err=True)
    report = audit(source.entries, growing=source.growing)
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(report.summary)
