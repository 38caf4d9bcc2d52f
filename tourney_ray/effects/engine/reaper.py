"""Removes what nobody holds a lease for any more: containers of attempts that are over, on the node where they are."""

from __future__ import annotations

from collections.abc import Callable, Collection

from tourney_ray.effects.engine.connection import Engine
from tourney_ray.effects.engine.containers import Containers

Leased = Callable[[Collection[str]], Collection[str]]
"""Of these attempts, those that hold GPUs at this moment. An attempt is leased before its container is made."""


def reap(engine: Engine, driver: str, leased: Leased) -> list[str]:
    """End and remove the containers of a driver's attempts that are not leased; the attempts' ids.

    They are listed first and asked about then: one that was made meanwhile is leased. Raises `PlatformFault`.
    """
    containers = Containers(engine)
    found = containers.ours(driver=driver)
    if not found:
        return []
    held = leased({container.labels.attempt for container in found})
    stale = [container for container in found if container.labels.attempt not in held]
    for container in stale:
        if container.runs:
            containers.stop(container.container_id, 0.0)
        containers.remove(container.container_id)
    return [container.labels.attempt for container in stale]
