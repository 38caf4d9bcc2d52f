"""What bounds the steps of an image's build: a control group of its own for every build, with all of its processes.

Guarantee: when the context is left, nothing of the build runs any more and its group is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from tourney_ray.effects import control_groups
from tourney_ray.effects.control_groups import Bounds
from tourney_ray.effects.engine.connection import EngineFacts
from tourney_ray.errors import EngineDown

PARENT = "tourney-build"


@contextlib.contextmanager
def bounded(facts: EngineFacts, mem_bytes: int, pids: int, cpus: float) -> Generator[str]:
    """A context: the engine's `--cgroup-parent` for one build; raises `EngineDown` where a bound cannot be set."""
    if facts.cgroup_driver == "systemd":
        raise EngineDown(
            "builds cannot be bounded: this engine leaves control groups to systemd",
            'put {"exec-opts": ["native.cgroupdriver=cgroupfs"]} into the engine\'s daemon.json',
        )
    control_groups.end_orphans(PARENT)
    name = control_groups.new_name(PARENT)
    try:
        control_groups.make(facts.cgroup_version, name, Bounds(mem_bytes, pids, min(cpus, facts.cpus)))
    except OSError as problem:
        control_groups.end(name)
        raise EngineDown(
            f"builds cannot be bounded: {problem}", "run Ray as root on this node, with control groups mounted"
        ) from problem
    try:
        yield f"/{name}"
    finally:
        control_groups.end(name)


def is_bounded(group: str) -> bool:
    """Whether there is a control group of that name, that is whether its build goes on."""
    return bool(control_groups.folders(group.strip("/")))


def end_processes(group: str) -> None:
    """Kill what runs in the group, where nothing starts any more; raises `EngineDown` when something does not end."""
    control_groups.end_processes(group.strip("/"))
