"""Which of a node's GPUs a training gets: the labels of its running containers are the truth of what is taken.

Guarantee: under the node's lock, no two containers hold the same GPU.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from tourney_ray.effects.engine.labels import OurLabels
from tourney_ray.effects.file_lock import alone
from tourney_ray.errors import EngineDown


def choose(
    wanted: int, total: int, ours: tuple[int, ...], taken: Collection[int], holders: Mapping[int, str] | None = None
) -> tuple[int, ...]:
    """`wanted` indices below `total`, ascending: Ray's (`ours`) unless one is taken, else the lowest free ones.

    `holders` names who holds a taken one. Raises `EngineDown` when not enough are free.
    """
    if len(set(ours)) == wanted and all(0 <= index < total for index in ours) and not set(ours) & set(taken):
        return tuple(sorted(ours))
    free = [index for index in range(total) if index not in taken]
    if len(free) >= wanted:
        return tuple(free[:wanted])
    held = ", ".join(f"{index} by {(holders or {}).get(index, 'another')}" for index in sorted(taken))
    raise EngineDown(
        f"{wanted} of the {total} GPUs are wanted and {len(free)} are free; held: {held or 'none'}",
        "`docker ps --filter label=tourney.gpus` on this node shows who holds them",
    )


def taken_by(running: Iterable[OurLabels], here: OurLabels, devices: Literal["nvidia", "none"]) -> dict[int, str]:
    """Index → attempt that holds it, without `here`'s own.

    Real devices are held by any container of the engine; counted ones only by those of the same node and GPU type.
    """
    others = [one for one in running if (one.attempt, one.epoch) != (here.attempt, here.epoch)]
    if devices == "none":
        others = [one for one in others if (one.node, one.gpu_type) == (here.node, here.gpu_type)]
    return {index: one.attempt for one in others for index in one.gpus}


def node_lock(folder: Path) -> AbstractContextManager[None]:
    """Wait until nobody else who works in that folder makes a container, then be alone."""
    return alone(folder / ".start.lock")
