"""Staging one training on its virtual machine: its image is found there, brought there or built there, its data copied.

What a machine cannot do is told as no fact at all, so that it is tried again; what the miner did wrong is one.
"""

from __future__ import annotations

from tourney_ray.core import events as e
from tourney_ray.core.commands import Stage
from tourney_ray.core.models import Blame, Failed
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.outcomes import image_built, staging_failed
from tourney_ray.simulation.cluster import Machine, Staged
from tourney_ray.simulation.miners import image_of
from tourney_ray.simulation.world import MOMENT_S, Owner, World, send, training_of

STAGING_S = 60.0
RETRY_S = 5.0
"""Pause after a machine's fault, before it is heard of."""

UNBUILDABLE = Failed(
    blame=Blame.MINER, kind="image_build_failed", reason="image build failed at step 4/9: exit 1", seconds=30.0
)


class Stager:
    """Stages one training and tells what comes of it."""

    def __init__(self, world: World, owner: Owner, command: Stage) -> None:
        self._world = world
        self._owner = owner
        self._command = command
        self._machine: Machine = world.cluster.machines[command.node]
        self._over = False

    def begin(self) -> None:
        """Take the time that it takes, unless the machine is lost meanwhile."""
        self._machine.watchers.append(self.lose)
        if self._machine.up:
            self._world.clock.after(self._world.faults.takes(STAGING_S), self._arrived)
        else:
            self._world.clock.after(MOMENT_S, self.lose)

    def lose(self) -> None:
        """The machine is not to be seen any more."""
        if not self._over:
            self._over = True
            self._try_again()

    def _arrived(self) -> None:
        """Put it in its place. What a driver that is dead by then has asked for may be done all the same."""
        if self._over:
            return
        self._over = True
        if not self._machine.engine_up:
            self._try_again()
        elif self._owner.alive or self._world.faults.outlives():
            self._stage()

    def _stage(self) -> None:
        spec = self._command.spec
        place = self._owner.state.tournaments[spec.tournament_id].tasks[spec.task_id].place
        failures = training_of(self._owner.state, spec.tournament_id, spec.task_id, spec.hotkey).miner_failures
        if not self._world.script.builds(place, spec.hotkey, failures):
            self._tell(staging_failed(self._command, UNBUILDABLE))
            return
        image_id, because = self._image()
        self._machine.images[spec.tree_hash] = image_id
        staged = Staged(spec.tournament_id, spec.task_id, spec.hotkey, image_id)
        self._machine.stage(f"{spec.task_id}.{spec.hotkey}", staged)
        self._tell(image_built(self._command, image_id, "d" * 64, (), STAGING_S, because))

    def _image(self) -> tuple[str, str]:
        """The image that the machine has now, and how it came by it."""
        tree, known, world = self._command.spec.tree_hash, self._command.image, self._world
        if known and any(m.up and m.images.get(tree) == known.image_id for m in world.cluster.machines.values()):
            return known.image_id, "brought from another machine"
        if tree in self._machine.images:
            return self._machine.images[tree], "found: built before"
        world.builds[tree] = world.builds.get(tree, 0) + 1
        return image_of(tree, world.builds[tree]), "the image of before was lost" if known else "built from the tree"

    def _try_again(self) -> None:
        self._world.clock.after(RETRY_S, self._tell)

    def _tell(self, *facts: e.Fact) -> None:
        if self._owner.alive:
            send(self._world, self._owner, Outcome(self._command.command_id, facts))
