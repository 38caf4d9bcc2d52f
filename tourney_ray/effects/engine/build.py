"""Builds a stranger's image from the vetted tree: once per (tree hash, kind) and node, bounded, without network.

Guarantee: the labels of an image say truly which tree it was built from; ours go before those of a dockerfile.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docker.errors import APIError

from tourney_ray.core.models import Sha1, Sha256
from tourney_ray.core.quoting import shown
from tourney_ray.core.record import Record
from tourney_ray.effects.engine.build_bounds import bounded
from tourney_ray.effects.engine.build_context import check_added, check_context, read_dockerfile
from tourney_ray.effects.engine.build_leftovers import remove_leftovers
from tourney_ray.effects.engine.build_steps import Steps
from tourney_ray.effects.engine.builder import GIB, KIND, TREE, Build, BuildLimits, require_builder
from tourney_ray.effects.engine.connection import Engine, translated
from tourney_ray.effects.engine.dockerfile import Dockerfile, parse
from tourney_ray.effects.engine.dockerfile_demands import (
    Source,
    added,
    external_images,
    needs_buildkit,
    reaching_out,
    unclear_images,
    unknown_flags,
    volumes,
)
from tourney_ray.effects.file_lock import alone
from tourney_ray.errors import EngineDown, ImageBuildFailed


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
    require_builder()
    with alone(log.with_suffix(".lock")):
        dockerfile, content = _dockerfile(source, kind)
        bases = _bases(engine, dockerfile)
        begun = time.monotonic()
        image_id = _find(engine, kind, tree_hash)
        found = image_id is not None
        if image_id is None:
            check_context(source, kind, limits.context_bytes, limits.context_entries)
            check_added(source, added(dockerfile))
            image_id = _built(engine, kind, tree_hash, source, log, limits, bases)
        else:
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


def _built(
    engine: Engine, kind: str, tree_hash: str, source: Path, log: Path, limits: BuildLimits, bases: Mapping[str, str]
) -> str:
    """The id of the image, just built; nothing else of the build is left."""
    with bounded(engine.facts, limits.mem_bytes, limits.pids, limits.cpus) as group:
        remove_leftovers(engine, log.parent)
        with Steps(engine, log) as steps:
            image_id = Build(engine, kind, tree_hash, source, log, limits, steps).run(group)
            _check(engine, image_id, bases, limits, steps.image_bytes())
            return image_id


def _find(engine: Engine, kind: str, tree_hash: str) -> str | None:
    """The id of the image that was built from that tree; the latest where there are several."""
    wanted = [f"{TREE}={tree_hash}", f"{KIND}={kind}"]
    with translated(f"looking for the image of tree {tree_hash[:12]}"):
        found: list[Any] = engine.client.api.images(filters={"label": wanted, "dangling": False})
    latest = max(found, key=lambda one: one["Created"], default=None)
    return str(latest["Id"]) if latest else None


def _dockerfile(source: Path, kind: str) -> tuple[Dockerfile, bytes]:
    """The dockerfile, understood, and its bytes; raises `ImageBuildFailed` for one that cannot be built here."""
    content = read_dockerfile(source, kind)
    dockerfile = parse(content.decode("utf-8", errors="replace"))
    refused = {
        "asks for BuildKit, which is not used here": needs_buildkit(dockerfile),
        "can be read in more than one way": dockerfile.unclear or unknown_flags(dockerfile),
        "declares a volume, which would escape all limits": volumes(dockerfile),
        "begins with an image that is not named": unclear_images(dockerfile),
        "has the engine fetch something": reaching_out(dockerfile),
    }
    for what, problems in refused.items():
        if problems:
            raise ImageBuildFailed(f"the dockerfile {what}: {problems[0]}")
    return dockerfile, content


def _bases(engine: Engine, dockerfile: Dockerfile) -> dict[str, str]:
    """Ids of the images that it begins with, by name; raises `ImageBuildFailed` when one is not on this node."""
    found: dict[str, str] = {}
    for source in external_images(dockerfile):
        name = source.name or ""
        with translated(f"looking for the image {shown(name)}"):
            try:
                image: Mapping[str, Any] = engine.client.api.inspect_image(name)
            except APIError as error:
                if not 400 <= (error.status_code or 0) < 500:  # noqa: PLR2004 - it is not there, or no name at all
                    raise
                raise ImageBuildFailed(
                    f"line {source.line} of the dockerfile begins with {shown(name)}, which is not among the images of "
                    "this platform"
                ) from None
        _check_base(name, source, image)
        found[name] = str(image["Id"])
    return found


def _check_base(name: str, source: Source, image: Mapping[str, Any]) -> None:
    """Raise `ImageBuildFailed` for an image that is not offered to miners, `EngineDown` for one that should not be."""
    begins = f"line {source.line} of the dockerfile begins with {shown(name)}, which is"
    if TREE in (image["Config"].get("Labels") or {}):
        raise ImageBuildFailed(f"{begins} another miner's image")
    if not image.get("RepoTags") and not image.get("RepoDigests"):
        raise ImageBuildFailed(f"{begins} no image of this platform, but a part of one")
    if source.platform and source.platform != (there := f"{image['Os']}/{image['Architecture']}"):
        raise ImageBuildFailed(f"{begins} for {there}, not for {shown(source.platform)}")
    triggers = [str(one) for one in image["Config"].get("OnBuild") or ()]
    if any(one.split(maxsplit=1)[:1] and one.split()[0].upper() == "ADD" for one in triggers):
        raise EngineDown(
            f"the base image {shown(name)} has an ONBUILD ADD, which unpacks a miner's archives without any bound",
            "make it anew with ONBUILD COPY",
        )


def _check(
    engine: Engine, image_id: str, bases: Mapping[str, str], limits: BuildLimits, written_bytes: int = 0
) -> None:
    """Raise `ImageBuildFailed`, and take its name from the image, unless it keeps its bounds."""
    with translated("looking at what was built"):
        built: Mapping[str, Any] = engine.client.api.inspect_image(image_id)
        below = max((int(engine.client.api.inspect_image(base)["Size"]) for base in bases.values()), default=0)
    problem = ""
    if built["Config"].get("Volumes"):
        problem = (
            f"the image declares volumes, which would escape all limits: {shown(', '.join(built['Config']['Volumes']))}"
        )
    elif max(int(built["Size"]) - below, written_bytes) > limits.layer_bytes:
        problem = f"its layers hold more than the {limits.layer_bytes / GIB:.1f} GiB that they may"
    if problem:
        with translated("removing what was built"):
            for name in built.get("RepoTags") or ():
                engine.client.api.remove_image(name, noprune=True)
        raise ImageBuildFailed(problem)
