"""`tourney audit`: nobody has to believe the operator."""

from __future__ import annotations

from pathlib import Path

import click

from tourney_ray.report.audit import audit
from tourney_ray.store.agreement import check_agreement
from tourney_ray.store.sources import open_source


def run_audit(journal: Path) -> None:
    """Print what was recomputed; raises `AuditDifference` (exit 1) at the first difference.

    Of a database that nobody holds the tables and the lines are compared with the journal as well.
    """
    source = open_source(journal)
    if source.note:
        click.echo(f"note: {source.note}", err=True)
    report = audit(source.entries, growing=source.growing)
    around = check_agreement(source.database) if source.database else []
    for note in (*report.notes, *around):
        click.echo(f"note: {note}", err=True)
    click.echo(report.summary)
