"""Images that are made of files instead of a dockerfile: looked up by name, imported from a tar, named.

Guarantee: an image has its name only after it is whole.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from docker.errors import ImageNotFound

from tourney_ray.core.quoting import shown
from tourney_ray.effects.engine.connection import OUT_OF_DISK, Engine, translated
from tourney_ray.errors import EngineDown, StorageUnavailable


@dataclass(frozen=True)
class NamedImage:
    """An image that the engine has."""

    image_id: str
    """`sha256:` and 64 hex digits."""
    size_bytes: int
    labels: Mapping[str, str]


def find_named(engine: Engine, name: str) -> NamedImage | None:
    """The image of that name (`repository:tag`) or id, if the engine has it. Raises `EngineDown`."""
    with translated(f"looking for the image {name}"):
        try:
            found = cast("Mapping[str, Any]", engine.client.api.inspect_image(name))
        except ImageNotFound:
            return None
    labels = cast("Mapping[str, str]", (found.get("Config") or {}).get("Labels") or {})
    return NamedImage(str(found["Id"]), int(found["Size"]), labels)


def import_image(engine: Engine, repository: str, tag: str, tar: Iterable[bytes], changes: Sequence[str]) -> str:
    """The id of a new image with the files of `tar`, named `repository:tag`.

    `changes` are instructions as in a dockerfile: LABEL, ENV, CMD. The tar is read once, while it is sent. Raises
    `EngineDown` or `StorageUnavailable`; then there is no such image.
    """
    doing = f"importing the image {repository}:{tag}"
    with translated(doing), contextlib.closing(engine.stream_client()) as client:
        answer = client.api.import_image(
            src=iter(tar), repository=repository, tag=tag, changes=list(changes), stream_src=True
        )
    return _image_id(doing, str(answer))


def name_image(engine: Engine, image_id: str, repository: str, tag: str) -> None:
    """Give an image one more name, taken from whichever image had it. Raises `EngineDown`."""
    with translated(f"naming the image {repository}:{tag}"):
        engine.client.api.tag(image_id, repository, tag)


def _image_id(doing: str, answer: str) -> str:
    """What the engine's last line says; it answers 200 first and tells of its troubles after."""
    last = list(_documents(answer))[-1:]
    status = str(last[0].get("status", "")) if last else ""
    if not status.startswith("sha256:"):
        words = shown(str(last[0].get("error", last[0])) if last else "it said nothing")
        fault = StorageUnavailable if OUT_OF_DISK.search(words) else EngineDown
        raise fault(f"{doing}: {words}", "see the engine's log on this node")
    return status


def _documents(answer: str) -> Iterator[Mapping[str, Any]]:
    for line in answer.splitlines():
        if line.strip():
            yield json.loads(line)
