"""Ends and removes what steps of builds leave on the engine: containers, and images without a name.

Guarantee: only what is a build's own for certain is touched, and what has a name never; a build whose watcher or engine
has died is cleaned up by the next, which finds its notes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Collection, Generator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from docker.errors import APIError, NotFound

from tourney_ray.effects.engine.build_bounds import PARENT, end_processes, is_bounded
from tourney_ray.effects.engine.connection import Engine, translated
from tourney_ray.effects.engine.events import Feed

NOT_FOUND, CONFLICT = 404, 409
NOTES = ".steps"
"""Ending of the file beside a build's log with the ids of its images and containers, while they may be there."""

OVER_S = 10.0
"""How long the engine may take to notice that a step has been ended, and to remove its container."""

LARGE_BYTES = 2**20
IMAGE = "sha256:"


def fail_steps(engine: Engine, group: str) -> None:
    """Have the steps that run in that group fail.

    A step that is over may be on its way into an image, which the engine does to the end whatever becomes of the build,
    holes of files written out as zeros. With its large files emptied, that fails.
    """
    end_processes(group)
    for facts in steps_in(engine, group):
        if upper := upper_folder(facts):
            _empty_large_files(upper)


def end_steps(engine: Engine, group: str) -> None:
    """Have the engine be done with the steps of that group, and remove their containers."""
    fail_steps(engine, group)
    until = time.monotonic() + OVER_S
    for facts in steps_in(engine, group):
        _wait_for_removal(engine, str(facts["Id"]), until)
    remove_steps(engine, group)


def remove_leftovers(engine: Engine, folder: Path) -> None:
    """Remove what builds have left that are over without having cleaned up; their notes in `folder` nobody holds."""
    remove_steps(engine)
    for path in folder.glob(f"*{NOTES}"):
        with _unless_held(path) as notes:
            own = notes.read().split() if notes else []
            images, containers = ([one for one in own if one.startswith(IMAGE) == yes] for yes in (True, False))
            if notes and own and not remove_images(engine, images, containers):
                notes.truncate(0)


def remove_images(engine: Engine, image_ids: Collection[str], container_ids: Collection[str]) -> list[str]:
    """Remove these images, those made of these containers, and what was made of either, unless something needs them.

    The result are those that are still in use.
    """
    with translated("removing the images of a build's steps"):
        listed: list[Any] = engine.client.api.images(all=True)
        parents = {str(one["Id"]): str(one.get("ParentId") or "") for one in listed}
        own = [*image_ids, *_made_of(engine, container_ids)]
        return [one for one in _with_children(own, parents) if not _removed(engine, one, one in parents.values())]


def forget_name(engine: Engine, name: str) -> None:
    """Take that name from the image that has it, if one does."""
    with translated(f"taking the name {name} from an image"), contextlib.suppress(NotFound):
        engine.client.api.remove_image(name, noprune=True)


def remove_steps(engine: Engine, group: str = "") -> None:
    """Remove the containers of steps: of the build in that group, and of all builds that are over.

    The engine does it itself when a build is cancelled, a moment later; it does not when it dies meanwhile.
    """
    for facts in steps_in(engine, group, over=True):
        with translated("removing the containers of builds"):
            try:
                engine.client.api.remove_container(facts["Id"], force=True, v=True)
            except APIError as error:
                if error.status_code not in (NOT_FOUND, CONFLICT):  # the engine removes it at this very moment
                    raise


def steps_in(engine: Engine, group: str, over: bool = False) -> Iterator[Mapping[str, Any]]:
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


def upper_folder(facts: Mapping[str, Any]) -> Path | None:
    """Where a container's own layer lies on this node; None where the engine's storage has no such folder."""
    upper = (facts.get("GraphDriver", {}).get("Data") or {}).get("UpperDir")
    return Path(str(upper)) if upper else None


def _wait_for_removal(engine: Engine, container_id: str, until: float) -> None:
    with Feed(engine, container_id) as feed:
        while (left := until - time.monotonic()) > 0:
            with translated("waiting for a step of a build"):
                try:
                    engine.client.api.inspect_container(container_id)
                except NotFound:
                    return
            feed.next(left)


def _empty_large_files(folder: Path) -> None:
    """Nothing runs there any more."""
    pending = [os.fspath(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False) and entry.stat().st_size > LARGE_BYTES:
                        os.truncate(entry.path, 0)
        except OSError as problem:
            if problem.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise


def _made_of(engine: Engine, container_ids: Collection[str]) -> list[str]:
    """Images that the engine has made of these containers and nobody has named or made anything of."""
    if not container_ids:
        return []
    nameless: list[Any] = engine.client.api.images(filters={"dangling": True})
    return [str(one["Id"]) for one in nameless if _container_of(engine, str(one["Id"])) in container_ids]


def _container_of(engine: Engine, image_id: str) -> str:
    try:
        return str(engine.client.api.inspect_image(image_id).get("Container") or "")
    except NotFound:
        return ""


def _with_children(image_ids: Collection[str], parents: Mapping[str, str]) -> list[str]:
    """Those that are there, and all that were made of them, children before their parents."""
    found = [image_id for image_id in dict.fromkeys(image_ids) if image_id in parents]
    for image_id in found:
        found += [child for child, parent in parents.items() if parent == image_id and child not in found]
    return sorted(found, key=lambda image_id: _depth(image_id, parents), reverse=True)


def _depth(image_id: str, parents: Mapping[str, str]) -> int:
    depth = 0
    while (image_id := parents.get(image_id, "")) in parents:
        depth += 1
    return depth


def _removed(engine: Engine, image_id: str, is_parent: bool) -> bool:
    """Whether it needs no more thought: removed, or kept for good, for it or one that is made of it has a name."""
    try:
        if not engine.client.api.inspect_image(image_id).get("RepoTags"):
            engine.client.api.remove_image(image_id, noprune=True)
    except APIError as error:
        if error.status_code not in (NOT_FOUND, CONFLICT):
            raise
        return error.status_code == NOT_FOUND or is_parent
    return True


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
