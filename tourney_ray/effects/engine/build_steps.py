"""What the steps of a build leave on the engine, containers and images: found for certain, measured, removed.

Guarantee: only a build's own is ever touched. A container is its own by its control group. An image is when the builder
has announced its id and it was not there when the build began: ids are digests of a moment and of a container, so that
nobody can announce one that is another's. Names are left alone, and so is what has them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from docker.errors import APIError, NotFound

from tourney_ray.effects.engine.build_bounds import PARENT, is_bounded
from tourney_ray.effects.engine.connection import Engine, translated
from tourney_ray.errors import EngineDown, ImageBuildFailed

NOT_FOUND, CONFLICT = 404, 409
ANNOUNCED = re.compile(rb" ---> ([0-9a-f]{12})\r?\n")
LONGEST = 19
"""Bytes of an announcement."""

MOST_ANNOUNCED = 10_000
"""A build has some hundred steps at most; whoever prints more announcements keeps the engine busy with questions."""

NOTES = ".steps"
"""Ending of the file beside a build's log that holds the ids of its images for as long as they may be there."""


class Steps:
    """The images and containers of one build, from before it begins. As a context: at its end the images are gone."""

    def __init__(self, engine: Engine, notes: Path) -> None:
        self._engine = engine
        self._place = notes
        self._notes: IO[str] | None = None
        self._before = frozenset[str]()
        self._heard: dict[bytes, str] = {}
        self._rest = b""
        self._images: dict[str, int] = {}

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
            remove_images(self._engine, list(self._images))
            if error is None:
                self._notes.truncate(0)

    def hear(self, said: bytes) -> None:
        """Take note of the images that the builder announces, as part of all that it says.

        Raises `ImageBuildFailed` for a step that announces without end.
        """
        said = self._rest + said
        self._rest = said[-LONGEST:]
        for short in ANNOUNCED.findall(said):
            if short not in self._heard:
                self._heard[short] = self._look(short.decode("ascii"))
                if len(self._heard) > MOST_ANNOUNCED:
                    raise ImageBuildFailed("image build failed: what its steps print passes for the builder's words")

    def image_bytes(self) -> int:
        """What the images of all its steps hold, each above the one that it begins with."""
        return sum(self._images.values())

    def written_bytes(self, group: str, most_bytes: int, most_files: int) -> int:
        """What the steps that run in that group have written and nothing has kept yet, counted up to `most_bytes`.

        More files than `most_files` count as too many bytes.
        """
        return sum(self._written(facts, most_bytes, most_files) for facts in _steps_in(self._engine, group))

    def _look(self, short: str) -> str:
        """The full id of an announced image; empty where it is none of this build's."""
        with translated("looking at an image of a build"):
            try:
                image: Mapping[str, Any] = self._engine.client.api.inspect_image(short)
                image_id, parent = str(image["Id"]), str(image.get("Parent") or "")
                if image_id in self._before or not image_id.startswith(f"sha256:{short}"):
                    return ""
                below = int(self._engine.client.api.inspect_image(parent)["Size"]) if parent else 0
            except NotFound:
                return ""
        assert self._notes is not None
        self._notes.write(f"{image_id}\n")
        self._notes.flush()
        self._images[image_id] = max(int(image["Size"]) - below, 0)
        return image_id

    def _written(self, facts: Mapping[str, Any], most_bytes: int, most_files: int) -> int:
        upper = (facts.get("GraphDriver", {}).get("Data") or {}).get("UpperDir")
        if upper:
            return folder_bytes(Path(upper), most_bytes, most_files)
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


def remove_leftovers(engine: Engine, folder: Path) -> None:
    """Remove what builds have left that are over without having cleaned up: their watcher, or the engine, has died.

    Theirs are the notes in `folder` that nobody holds.
    """
    remove_steps(engine)
    for path in folder.glob(f"*{NOTES}"):
        with _unless_held(path) as notes:
            if notes is not None and (left := [line for line in notes.read().split() if line.startswith("sha256:")]):
                remove_images(engine, left)
                notes.truncate(0)


def remove_images(engine: Engine, image_ids: list[str]) -> None:
    """Remove those that nothing is made of and that have no name, the last first, with what was made of them."""
    with translated("removing the images of a build's steps"):
        listed: list[Any] = engine.client.api.images(all=True)
        for image_id in _with_children(image_ids, {str(one["Id"]): str(one.get("ParentId") or "") for one in listed}):
            try:
                if not engine.client.api.inspect_image(image_id).get("RepoTags"):
                    engine.client.api.remove_image(image_id, noprune=True)
            except APIError as error:
                if error.status_code not in (NOT_FOUND, CONFLICT):  # an image with a name is made of it
                    raise


def _with_children(image_ids: list[str], parents: Mapping[str, str]) -> list[str]:
    """Those that are there, and all that were made of them, children before their parents."""
    found = [image_id for image_id in image_ids if image_id in parents]
    for image_id in found:
        found += [child for child, parent in parents.items() if parent == image_id and child not in found]
    depth = dict[str, int]()
    for image_id in found:
        above, depth[image_id] = parents[image_id], 0
        while above in parents:
            above, depth[image_id] = parents[above], depth[image_id] + 1
    return sorted(found, key=lambda image_id: -depth[image_id])


def remove_steps(engine: Engine, group: str = "") -> None:
    """Remove the containers of steps: of the build in that group, and of all builds that are over.

    The engine does it itself when a build is cancelled, a moment later; it does not when it dies meanwhile.
    """
    for facts in _steps_in(engine, group, over=True):
        with translated("removing the containers of builds"):
            try:
                engine.client.api.remove_container(facts["Id"], force=True, v=True)
            except APIError as error:
                if error.status_code not in (NOT_FOUND, CONFLICT):  # the engine removes it at this very moment
                    raise


def _steps_in(engine: Engine, group: str, over: bool = False) -> Iterator[Mapping[str, Any]]:
    """The steps of the build in that group; with `over`, those of all builds that are over, too."""
    with translated("looking for the steps of builds"):
        listed: list[Any] = engine.client.api.containers(all=True)
    for one in listed:
        with translated("looking at a step of a build"):
            try:
                facts: Mapping[str, Any] = engine.client.api.inspect_container(one["Id"])
            except NotFound:
                continue
        parent = str(facts["HostConfig"]["CgroupParent"])
        if parent.startswith(f"/{PARENT}/") and (parent == group or (over and not is_bounded(parent))):
            yield facts


@contextlib.contextmanager
def _unless_held(path: Path) -> Generator[IO[str] | None]:
    """The file, held; None while somebody else holds it."""
    with path.open("r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file
