"""Images on their way from one node's engine to another's, named by their ids.

Guarantee: an image that was taken in has the very id that was asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tourney_ray.effects.engine.builder import NAME
from tourney_ray.effects.engine.connection import Engine, translated
from tourney_ray.effects.engine.imports import find_named, name_image
from tourney_ray.errors import EngineDown, InputsMissing

PIECE_BYTES = 4 << 20


def saved_image(engine: Engine, image_id: str) -> Iterator[bytes]:
    """The image with all its layers, in pieces. Raises `InputsMissing` when this engine does not have it."""
    if find_named(engine, image_id) is None:
        raise InputsMissing(f"image {image_id[:19]} is not on this node any more")
    with translated(f"sending image {image_id[:19]}"), contextlib.closing(engine.stream_client()) as client:
        yield from client.api.get_image(image_id, chunk_size=PIECE_BYTES)


def take_image(engine: Engine, image_id: str, kind: str, tree_hash: str, pieces: Iterator[bytes]) -> None:
    """Have the engine take in an image that another one sends, named as one that was built here.

    Raises `EngineDown` or `StorageUnavailable` when it does not arrive; it may be sent again then.
    """
    with translated(f"taking in image {image_id[:19]}"), contextlib.closing(engine.stream_client()) as client:
        said = [str(line) for line in client.api.load_image(pieces)]
    if find_named(engine, image_id) is None:
        raise EngineDown(f"image {image_id[:19]} did not arrive: {''.join(said)[-200:]}", "see the engine's log")
    name_image(engine, image_id, NAME, f"{kind}-{tree_hash}")
