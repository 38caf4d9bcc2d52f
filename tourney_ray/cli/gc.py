"""`tourney gc`: bring every node below its limits of images, caches and artifacts; never what a tournament needs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tourney_ray.cli import whereabouts
from tourney_ray.errors import StorageUnavailable

if TYPE_CHECKING:
    from tourney_ray.cli.whereabouts import Whereabouts
    from tourney_ray.effects.retention import NodeSwept, Swept

HEADINGS = ("node", "what", "removed", "freed bytes", "kept", "kept bytes", "limit bytes")
NODE_SHOWN = 12
"""How much of a node's id is shown."""


@click.command()
@whereabouts.options
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all that was removed.")
def gc(path: Path | None, address: str | None, name: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove the oldest images, caches and artifacts beyond the limits of [retention], and nothing that is needed.

    With a running driver on every node of its cluster, else on this machine. May run beside tournaments at any time.
    """
    with whereabouts.found(path, address, name) as where:
        nodes = where.driver.call("gc", dry_run) if where.driver else [_here(where, dry_run)]
    if as_json:
        click.echo(json.dumps([node.model_dump(mode="json") for node in nodes]))
    else:
        for line in table(nodes):
            click.echo(line)
        for line in notes(nodes):
            click.echo(f"note: {line}", err=True)
    if troubles := list(_troubles(nodes)):
        more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
        raise StorageUnavailable(f"not everything was swept: {troubles[0]}{more}", "what was not is left as it was")


def table(nodes: Sequence[NodeSwept]) -> list[str]:
    """A line per node and limit, in columns; sizes in bytes."""
    rows = [HEADINGS, *(_row(node.node, one) for node in nodes for one in node.swept if not one.trouble)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return ["  ".join(_cells(row, widths)).rstrip() for row in rows]


def notes(nodes: Sequence[NodeSwept]) -> Iterator[str]:
    """What stays though it is too much, and what could not be removed."""
    for node in nodes:
        for one in node.swept:
            yield from (f"{_short(node.node)}: {left}" for left in one.left)
            if not one.trouble and one.kept_bytes > one.limit_bytes:
                over = one.kept_bytes - one.limit_bytes
                yield f"{_short(node.node)}: {one.what} are {over} bytes over their limit, all of them needed or young"


def _here(where: Whereabouts, dry_run: bool) -> NodeSwept:
    """This machine alone, by what its journal says."""
    from tourney_ray.core.holdings import holdings
    from tourney_ray.driver.sweeping import sweep_node
    from tourney_ray.effects.retention import NodeSwept

    click.echo(f"note: this machine only, by its journal: {where.why_none}", err=True)
    held = holdings(whereabouts.recorded(where.settings))
    swept = sweep_node(where.settings, lambda: held, with_artifacts=True, dry_run=dry_run)
    return NodeSwept(node=os.uname().nodename, swept=swept)


def _row(node: str, one: Swept) -> tuple[str, ...]:
    numbers = len(one.removed), one.freed_bytes, one.kept, one.kept_bytes, one.limit_bytes
    return _short(node), one.what, *map(str, numbers)


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Words to the left, numbers to the right."""
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if column < HEADINGS.index("removed") else cell.rjust(width)


def _troubles(nodes: Sequence[NodeSwept]) -> Iterator[str]:
    for node in nodes:
        if node.trouble:
            yield f"{_short(node.node)}: {node.trouble}"
        yield from (f"{one.what} of {_short(node.node)}: {one.trouble}" for one in node.swept if one.trouble)


def _short(node: str) -> str:
    return node[:NODE_SHOWN]
