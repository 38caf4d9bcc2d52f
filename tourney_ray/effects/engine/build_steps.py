"""What the steps of one build make on the engine, containers and images: known for certain, and measured.

Guarantee: nothing of anybody else is taken for the build's own. A container is its own by its control group. An image
is when it was made of such a container, or when the builder has announced its id and it was not there when the build
began: ids are digests of a moment, too, so that nobody can announce one that is another's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from docker.errors import NotFound

from tourney_ray.effects.engine.build_leftovers import IMAGE, NOTES, remove_images, steps_in, upper_folder
from tourney_ray.effects.engine.connection import Engine, translated
from tourney_ray.errors import EngineDown

ANNOUNCED = re.compile(rb" ---> ([0-9a-f]{12})\r?\n")
LONGEST = 19
"""Bytes of an announcement."""

SHORT = 12
"""Digits of an id in it."""


class Steps:
    """The images and containers of one build, from before it begins. As a context: at its end the images are gone."""

    def __init__(self, engine: Engine, log: Path) -> None:
        self._engine = engine
        self._place = log.with_suffix(NOTES)
        self._notes: IO[str] | None = None
        self._before = frozenset[str]()
        self._rest = b""
        self._images: dict[str, int] = {}
        self._containers: set[str] = set()

    def __enter__(self) -> Self:
        """Remember what is there already."""
        with translated("listing the images of this node"):
            self._before = frozenset(str(one["Id"]) for one in self._engine.client.api.images(all=True))
        self._notes = self._place.open("a", encoding="ascii")
        fcntl.flock(self._notes, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the images, but what the built one is made of; of an engine that is away, the next build does it.

        The engine may still be at work on a step of a build that was stopped: the next build looks again.
        """
        assert self._notes is not None
        with self._notes, contextlib.suppress(EngineDown):
            if not remove_images(self._engine, self._images, self._containers) and error is None:
                self._notes.truncate(0)

    def hear(self, said: bytes) -> None:
        """Take note of the images that the builder announces, as part of all that it says.

        Steps may print such words, too, as many as they like: what is not there is no image.
        """
        said = self._rest + said
        self._rest = said[-LONGEST:]
        if announced := {f"{IMAGE}{short.decode('ascii')}" for short in ANNOUNCED.findall(said)}:
            for image_id in self._since_it_began():
                if image_id[: len(IMAGE) + SHORT] in announced:
                    self._keep(image_id)

    def image_bytes(self) -> int:
        """What the images of all its steps hold, each above the one that it begins with."""
        return sum(self._images.values())

    def written_bytes(self, group: str, most_bytes: int, most_files: int) -> int:
        """What the steps that run in that group have written and nothing has kept yet, counted up to `most_bytes`.

        More files than `most_files` count as too many bytes.
        """
        steps = list(steps_in(self._engine, group))
        for facts in steps:
            if facts["Id"] not in self._containers:
                self._containers.add(str(facts["Id"]))
                self._note(str(facts["Id"]))
        return sum(self._written(facts, most_bytes, most_files) for facts in steps)

    def _since_it_began(self) -> frozenset[str]:
        """Images that are there and were not, as far as they are not known yet: this build's, or another's."""
        with translated("listing the images of this node"):
            there = frozenset(str(one["Id"]) for one in self._engine.client.api.images(all=True))
        return there - self._before - self._images.keys()

    def _keep(self, image_id: str) -> None:
        """Take an image for this build's own, unless it has gone meanwhile."""
        with translated("looking at an image of a build"):
            try:
                image: Mapping[str, Any] = self._engine.client.api.inspect_image(image_id)
                parent = str(image.get("Parent") or "")
                below = int(self._engine.client.api.inspect_image(parent)["Size"]) if parent else 0
            except NotFound:
                return
        self._note(image_id)
        self._images[image_id] = max(int(image["Size"]) - below, 0)

    def _note(self, own_id: str) -> None:
        """Leave word of what is the build's own to those who clean up when this process cannot."""
        assert self._notes is not None
        self._notes.write(f"{own_id}\n")
        self._notes.flush()

    def _written(self, facts: Mapping[str, Any], most_bytes: int, most_files: int) -> int:
        if upper := upper_folder(facts):
            return folder_bytes(upper, most_bytes, most_files)
        with translated("measuring a step of a build"):
            found: list[Any] = self._engine.client.api.containers(all=True, size=True, filters={"id": facts["Id"]})
        return max((int(one.get("SizeRw") or 0) for one in found), default=0)


def folder_bytes(folder: Path, most_bytes: int, most_files: int) -> int:
    """What the files below a folder say that they hold, which is what the engine will copy of them.

    The count stops above `most_bytes`; too many files, and paths too long to follow, count as more than that.
    """
    total = files = 0
    pending = [os.fspath(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    files += 1
                    total += max(status.st_size, status.st_blocks * 512)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    if total > most_bytes or files > most_files:
                        return most_bytes + 1
        except OSError as problem:
            if problem.errno == errno.ENAMETOOLONG:
                return most_bytes + 1
            if problem.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):  # it was removed at this very moment
                raise
    return total
