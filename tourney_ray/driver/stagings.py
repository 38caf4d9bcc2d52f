"""What the dispatcher knows of its nodes: what lies staged on which, and which can do nothing for now.

Nothing of it is recorded: a driver that starts anew has everything staged once more, and finds it there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tourney_ray.config import Settings
from tourney_ray.core import events as e
from tourney_ray.core.commands import Stage, Train
from tourney_ray.core.leases import Staged
from tourney_ray.core.models import Blame, Failed
from tourney_ray.core.staging import put
from tourney_ray.core.state import State
from tourney_ray.driver.outcomes import image_built, staging_failed
from tourney_ray.driver.tasks import on_node, stage
from tourney_ray.errors import PlatformFault

UNFIT_S = 30.0
"""How long a node is left alone after a fault of its own, while there are others."""

FAULTS_OF_NODES = {"engine_down", "storage_unavailable", "node_out_of_memory"}
"""Kinds of platform faults that would hit the next training on that node, too."""


class Stagings:
    """Runs `Stage` commands and remembers what came of them."""

    def __init__(
        self, settings: Settings, state: Callable[[], State], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._state = state
        self._clock = clock
        self._there: dict[str, Staged] = {}
        """By task."""
        self._tournaments: dict[str, str] = {}
        """Of those tasks."""
        self._unfit: dict[str, tuple[str, float]] = {}
        """Why, and until when by the clock."""

    def there(self) -> Mapping[str, Staged] | None:
        """By task where data and images of its trainings lie; None where nothing is staged."""
        return self._there if self._settings.sandbox.kind == "docker" else None

    def forget(self) -> None:
        """What lies anywhere for tournaments that are over."""
        live = {t.tournament_id for t in self._state().live()}
        self._tournaments = {task_id: t for task_id, t in self._tournaments.items() if t in live}
        self._there = {task_id: staged for task_id, staged in self._there.items() if task_id in self._tournaments}

    def unfit(self) -> dict[str, str]:
        """Nodes on which nothing can be staged or started for now, and why."""
        now = self._clock()
        self._unfit = {node: (why, until) for node, (why, until) in self._unfit.items() if until > now}
        return {node: why for node, (why, _) in self._unfit.items()}

    async def run(self, command: Stage) -> tuple[e.Fact, ...]:
        """The facts of a staging. Raises `RayError`, and `PlatformFault` for ours, which is no fact."""
        task = on_node(stage, command.command_id, command.node)
        found = await task.remote(self._settings, command.spec, command.image, self._holders(command))
        if isinstance(found, Failed) and found.blame is not Blame.MINER:
            self._doubt_node(command.node, found)
            raise PlatformFault(found.reason)
        self._unfit.pop(command.node, None)
        if isinstance(found, Failed):
            return (staging_failed(command, found),)
        made = found.image
        built = image_built(
            command, made.image_id, made.dockerfile_sha256, made.base_images, made.seconds, found.because
        )
        self._put(command, built.image_id)
        self._tournaments[command.spec.task_id] = command.tournament_id
        return (built,)

    def doubt(self, command: Train, failed: Failed) -> None:
        """What was staged for an attempt that the platform failed is looked for once more before the next one."""
        if failed.blame is Blame.PLATFORM:
            self._put(command, None)
            self._doubt_node(command.node, failed)

    def _put(self, command: Stage | Train, image_id: str | None) -> None:
        task_id = command.spec.task_id
        key, staged = f"{task_id}.{command.spec.hotkey}", self._there.get(task_id, {})
        self._there[task_id] = put(staged, key, command.node, image_id)

    def _doubt_node(self, node: str, failed: Failed) -> None:
        if failed.kind in FAULTS_OF_NODES:
            self._unfit[node] = failed.reason, self._clock() + UNFIT_S

    def _holders(self, command: Stage) -> tuple[str, ...]:
        """Live nodes that may have the image, the one that built it first."""
        if command.image is None:
            return ()
        image_id, nodes = command.image.image_id, self._state().nodes
        places = [nodes for staged in self._there.values() for nodes in staged.values()]
        others = sorted({n for there in places for n, image in there.items() if image == image_id})
        known = dict.fromkeys((command.image.node, *others))
        return tuple(n for n in known if n != command.node and n in nodes and nodes[n].lost_at is None)
