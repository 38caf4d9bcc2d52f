"""`tourney check-cluster` and `tourney check-host`: what is wrong with machines, before anything runs on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tourney_ray.errors import ConfigError


@click.command("check-cluster")
@click.argument("file", type=click.Path(path_type=Path))
def check_cluster(file: Path) -> None:
    """Check a cluster FILE before `ray up`: Ray's own schema, and what Ray does not look at. Offline."""
    from tourney_ray.driver.ray_schema import ray_complaints
    from tourney_ray.effects.cluster_checks import complaints

    _end_with(ray_complaints(file) or complaints(file), str(file))
    click.echo(f"{file}: nothing to complain of", err=True)


@click.command("check-host")
@click.option("--engine", default="", help="Address of the engine; default: DOCKER_HOST, else the usual socket.")
@click.option("--claimed", default=None, help="JSON of the resources that Ray will be told: they have to be true.")
def check_host(engine: str, claimed: str | None) -> None:
    """Check whether this machine may join as a worker, and print its GPUs as `ray start --resources` takes them."""
    from tourney_ray.effects.host_checks import claim_faults, look_over

    host = look_over(engine)
    faults = list(host.faults)
    if claimed is not None and host.gpus:
        faults += claim_faults(_resources(claimed), host.gpus)
    _end_with(faults, "this machine cannot be a worker")
    click.echo(json.dumps(host.gpus))


def _resources(claimed: str) -> dict[str, float]:
    try:
        told = json.loads(claimed)
    except ValueError as error:
        raise ConfigError(f"--claimed is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise ConfigError("--claimed is no mapping of resources")
    return told


def _end_with(faults: Sequence[str], what: str) -> None:
    for fault in faults:
        click.echo(f"error: {what}: {fault}", err=True)
    if faults:
        sys.exit(ConfigError.exit_code)
