"""`tourney images base`: the image that the sample miners' dockerfiles begin with, made on this machine."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict

import click


@click.group()
def images() -> None:
    """Images of the container engine that a tournament of sample miners needs."""


@images.command()
@click.option("--tiny", is_flag=True, help="Python and a shell only, without torch.")
@click.option("--host", default="", help="The engine's address; default: DOCKER_HOST, else the usual socket.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def base(tiny: bool, host: str, as_json: bool) -> None:
    """Make the sample miners' base image of this machine's own Python and tools, unless the engine has it."""
    from tourney_ray.effects.engine.connection import connect
    from tourney_ray.samples.base_image import ensure_base_image

    with contextlib.closing(connect(host)) as engine:
        image = ensure_base_image(engine, tiny)
    if as_json:
        click.echo(json.dumps(asdict(image)))
        return
    click.echo(image.name)
    click.echo(image.image_id)
    click.echo(f"{image.size_bytes} bytes, {'made' if image.made else 'found'} in {image.seconds:.1f} s")
