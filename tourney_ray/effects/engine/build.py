"""Builds a stranger's image from the vetted tree: once per (tree hash, kind) and node, bounded, without network.

Guarantee: the labels of an image say truly which tree it was built from; ours go before those of a dockerfile.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docker.errors import ImageNotFound

from tourney_ray.core.models import Record, Sha1, Sha256
from tourney_ray.core.quoting import shown
from tourney_ray.effects.contract import dockerfile_at
from tourney_ray.effects.engine.build_bounds import bounded
from tourney_ray.effects.engine.builder import (
    GIB,
    KIND,
    TREE,
    Build,
    BuildLimits,
    has_buildkit,
    remove_steps,
)
from tourney_ray.effects.engine.connection import Engine, translated
from tourney_ray.effects.engine.dockerfile import Dockerfile, parse
from tourney_ray.effects.file_lock import alone
from tourney_ray.errors import ImageBuildFailed


class BuiltImage(Record):
    """An image of a miner's."""

    image_id: str
    """`sha256:` and 64 hex digits."""
    tree_hash: Sha1
    kind: str
    """`text` or `image`: which of the two dockerfiles."""
    dockerfile_sha256: Sha256
    base_images: tuple[str, ...]
    """Ids of the images that it begins with."""
    seconds: float
    found: bool
    """Whether it was there before."""


def build_image(
    engine: Engine, kind: str, tree_hash: str, source: Path, log: Path, limits: BuildLimits | None = None
) -> BuiltImage:
    """The image of the tree at `source`, built unless this node has it; what the builder says is kept in `log`.

    Raises `ImageBuildFailed` for what is the miner's fault, `EngineDown` and `StorageUnavailable` for ours.
    """
    limits = limits or BuildLimits()
    with alone(log.with_suffix(".lock")):
        dockerfile, content = _dockerfile(source, kind)
        bases = _bases(engine, dockerfile)
        begun = time.monotonic()
        image_id = _find(engine, kind, tree_hash)
        found = image_id is not None
        if image_id is None:
            remove_steps(engine)
            with bounded(engine.facts, limits.mem_bytes, limits.pids) as group:
                image_id = Build(engine, kind, tree_hash, source, log, limits).run(group)
        _check(engine, image_id, bases, limits)
        return BuiltImage(
            image_id=image_id,
            tree_hash=tree_hash,
            kind=kind,
            dockerfile_sha256=hashlib.sha256(content).hexdigest(),
            base_images=tuple(bases.values()),
            seconds=time.monotonic() - begun,
            found=found,
        )


def _find(engine: Engine, kind: str, tree_hash: str) -> str | None:
    """The id of the image that was built from that tree; the latest where there are several."""
    wanted = [f"{TREE}={tree_hash}", f"{KIND}={kind}"]
    with translated(f"looking for the image of tree {tree_hash[:12]}"):
        found: list[Any] = engine.client.api.images(filters={"label": wanted, "dangling": False})
    latest = max(found, key=lambda one: one["Created"], default=None)
    return str(latest["Id"]) if latest else None


def _dockerfile(source: Path, kind: str) -> tuple[Dockerfile, bytes]:
    """The dockerfile, understood, and its bytes; raises `ImageBuildFailed` for one that cannot be built here."""
    path = source / dockerfile_at(kind)
    if path.is_symlink() or not path.is_file():
        raise ImageBuildFailed(f"the repository has no file {dockerfile_at(kind)}")
    content = path.read_bytes()
    dockerfile = parse(content.decode("utf-8", errors="replace"))
    if not has_buildkit() and (modern := dockerfile.needs_buildkit):
        raise ImageBuildFailed(f"the dockerfile asks for BuildKit, which is not on this node: {modern[0]}")
    refused = {
        "declares a volume, which would escape all limits": dockerfile.volumes,
        "begins with an image that is not named": dockerfile.unclear_images,
        "has the engine fetch or share something": dockerfile.reaching_out,
    }
    for what, problems in refused.items():
        if problems:
            raise ImageBuildFailed(f"the dockerfile {what}: {problems[0]}")
    return dockerfile, content


def _bases(engine: Engine, dockerfile: Dockerfile) -> dict[str, str]:
    """Ids of the images that it begins with, by name; raises `ImageBuildFailed` when one is not on this node."""
    found: dict[str, str] = {}
    for name in dockerfile.external_images:
        with translated(f"looking for the image {shown(name)}"):
            try:
                image: Mapping[str, Any] = engine.client.api.inspect_image(name)
            except ImageNotFound:
                raise ImageBuildFailed(
                    f"the dockerfile begins with {shown(name)}, which is not among the images of this platform"
                ) from None
        if TREE in (image["Config"].get("Labels") or {}):
            raise ImageBuildFailed(f"the dockerfile begins with {shown(name)}, which is another miner's image")
        found[name] = str(image["Id"])
    return found


def _check(engine: Engine, image_id: str, bases: Mapping[str, str], limits: BuildLimits) -> None:
    """Raise `ImageBuildFailed`, and remove the image, unless it keeps its bounds."""
    with translated("looking at what was built"):
        built: Mapping[str, Any] = engine.client.api.inspect_image(image_id)
        below = max((int(engine.client.api.inspect_image(base)["Size"]) for base in bases.values()), default=0)
    problem = ""
    if built["Config"].get("Volumes"):
        problem = (
            f"the image declares volumes, which would escape all limits: {shown(', '.join(built['Config']['Volumes']))}"
        )
    elif int(built["Size"]) - below > limits.layer_bytes:
        problem = f"its layers hold more than the {limits.layer_bytes / GIB:.1f} GiB that they may"
    if problem:
        with translated("removing what was built"):
            engine.client.api.remove_image(image_id, force=True)
        raise ImageBuildFailed(problem)
