"""A place to build strangers' images in, after which nothing but images with a name may be left."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tourney_ray.effects.contract import dockerfile_at
from tourney_ray.effects.control_groups import GROUPS
from tourney_ray.effects.engine.build import BuiltImage, build_image
from tourney_ray.effects.engine.builder import BuildLimits
from tourney_ray.effects.engine.connection import Engine

MIB = 2**20
LIMITS = BuildLimits(deadline_s=60.0, mem_bytes=256 * MIB, pids=64, layer_bytes=64 * MIB)


@dataclass
class Yard:
    """A place to build in."""

    engine: Engine
    folder: Path
    trees: list[str] = field(default_factory=list[str])

    def build(
        self,
        dockerfile: str | None,
        limits: BuildLimits = LIMITS,
        tree: str = "",
        files: Mapping[str, bytes] | None = None,
    ) -> BuiltImage:
        """The image of a tree with that dockerfile and those files."""
        tree = tree or self.tree()
        source = self.folder / tree
        written = {dockerfile_at("text"): dockerfile.encode()} if dockerfile is not None else {}
        for name, content in (written | dict(files or {})).items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            fresh = self.folder / os.urandom(8).hex()
            fresh.write_bytes(content)
            fresh.replace(source / name)  # whoever builds the same tree at the same time reads all of it
        return build_image(self.engine, "text", tree, source, self.log(tree), limits)

    def tree(self) -> str:
        """The id of another tree, whose folder is there."""
        tree = f"{len(self.trees):x}".rjust(4, "0") + os.urandom(18).hex()
        self.trees.append(tree)
        (self.folder / tree / "dockerfiles").mkdir(parents=True)
        return tree

    def log(self, tree: str) -> Path:
        """What the builder said of it."""
        return self.folder / f"{tree}.log"


@contextmanager
def clean_yard(engine: Engine, folder: Path) -> Generator[Yard]:
    """A yard; no container, no control group and no image without a name may be left of what was built in it."""
    containers = {container.id for container in engine.client.containers.list(all=True)}
    before = nameless(engine)
    yield Yard(engine, folder)
    assert nameless(engine) == before, _made_by(engine, nameless(engine) - before)
    assert {container.id for container in engine.client.containers.list(all=True)} == containers
    assert groups(os.getpid()) == set()


def _made_by(engine: Engine, image_ids: set[str]) -> list[str]:
    return [f"{one}: {engine.client.api.history(one)[0]['CreatedBy']}" for one in image_ids]


def nameless(engine: Engine) -> set[str]:
    """Images without a name that no other is made of."""
    return {str(one["Id"]) for one in engine.client.api.images(filters={"dangling": True})}


def groups(owner: int) -> set[Path]:
    """Control groups of the builds that a process waits for."""
    return {one for one in GROUPS.glob(f"*/tourney-build/{owner}-*") if one.is_dir()}
