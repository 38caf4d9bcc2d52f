"""Which images of miners have to go from a node's engine. Base images and anybody else's are never looked at.

Guarantee: an image goes only while nobody builds it, and after it was asked once more whether somebody needs it; one
that a container is made of stays, as the engine sees to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from docker.errors import APIError, ImageNotFound

from tourney_ray.core.holdings import Holdings
from tourney_ray.core.quoting import shown
from tourney_ray.effects.engine.builder import KIND, TREE
from tourney_ray.effects.engine.connection import Engine, translated
from tourney_ray.effects.file_lock import alone
from tourney_ray.effects.retention import Item, Mark, Swept, sweep

CONFLICT = 409
TREE_HASH = re.compile(r"[0-9a-f]{40}")
KINDS = ("text", "image")
NEVER = "0001-"
"""How the engine begins a time that has not come."""


@dataclass(frozen=True)
class MinersImage:
    """An image of a miner's that the engine has."""

    image_id: str
    tree_hash: str
    kind: str
    size_bytes: int
    """Of the layers that no other image has."""
    used_at: datetime
    """When it was last given its name, which a build does at its end."""


@dataclass(frozen=True)
class ImageSweep:
    """The images of one engine; `builds` is the folder with the locks of builds."""

    engine: Engine
    builds: Path
    ask: Callable[[], Holdings]
    """What is needed at this moment."""

    def run(self, mark: Mark, most_bytes: int, dry_run: bool = False) -> Swept:
        """Bring them below the limit, oldest first. Raises `PlatformFault`."""
        found = {image.image_id: image for image in miners_images(self.engine)}
        items = [Item("image", one.image_id, one.size_bytes, one.used_at) for one in found.values()]
        held = {one.image_id for one in found.values() if _is_held(one, mark.held) or one.used_at > mark.before}
        return sweep(
            "images",
            items,
            held,
            most_bytes,
            lambda item: item.size_bytes if dry_run else self._removed(found[item.name]),
        )

    def _removed(self, image: MinersImage) -> int | str:
        """Remove it; the bytes freed, or why it stays."""
        with alone(self.builds / f"{image.tree_hash}-{image.kind}.lock"):
            if _is_held(image, self.ask()):
                return "a tournament has come to need it"
            with translated(f"removing the image {image.image_id}"):
                try:
                    self.engine.client.api.remove_image(image.image_id)
                except ImageNotFound:
                    return 0
                except APIError as error:
                    if error.status_code != CONFLICT:
                        raise
                    return shown(str(error.explanation))
        return image.size_bytes


def miners_images(engine: Engine) -> list[MinersImage]:
    """All images that were built for miners, by their labels. Raises `PlatformFault`."""
    with translated("listing the images of this node"):
        listed: list[Mapping[str, Any]] = engine.client.api.images(filters={"label": [TREE, KIND]})
        sizes = _own_sizes(engine) if listed else {}
        found = [_image(engine, one, sizes.get(str(one["Id"]), int(one["Size"]))) for one in listed]
    return [image for image in found if image is not None]


def _is_held(image: MinersImage, held: Holdings) -> bool:
    return (image.tree_hash, image.kind) in held.images


def _own_sizes(engine: Engine) -> dict[str, int]:
    """Bytes by image, of layers that it alone has."""
    usage: Mapping[str, Any] = engine.client.api.df()
    return {str(one["Id"]): int(one["Size"]) - max(int(one["SharedSize"]), 0) for one in usage["Images"] or ()}


def _image(engine: Engine, listed: Mapping[str, Any], size: int) -> MinersImage | None:
    """The image as it lies there; None for one that is gone by now, or whose labels no build of ours can have set."""
    labels: Mapping[str, str] = listed["Labels"]
    if not TREE_HASH.fullmatch(labels[TREE]) or labels[KIND] not in KINDS:
        return None
    try:
        facts: Mapping[str, Any] = engine.client.api.inspect_image(listed["Id"])
    except ImageNotFound:
        return None
    made = datetime.fromtimestamp(int(listed["Created"]), UTC)
    named = str((facts.get("Metadata") or {}).get("LastTagTime") or NEVER)
    used_at = made if named.startswith(NEVER) else max(made, datetime.fromisoformat(named).astimezone(UTC))
    return MinersImage(str(listed["Id"]), labels[TREE], labels[KIND], size, used_at)
