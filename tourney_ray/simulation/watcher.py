"""Watching one attempt on its virtual machine, as a task of the driver's does: from its start to what it left."""

from __future__ import annotations

from collections.abc import Callable

from tourney_ray.core import events as e
from tourney_ray.core.commands import Train
from tourney_ray.core.models import Blame, Failed, TrainingSpec
from tourney_ray.core.trainings import terms_in
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.outcomes import attempt_ended, lease_ended
from tourney_ray.simulation.cluster import Container, Machine
from tourney_ray.simulation.world import MOMENT_S, Owner, World, send, training_of

STARTING_S, COLLECTING_S = 2.0, 30.0


class Watcher:
    """Watches one attempt on its machine: starts its container or takes it over, and tells what comes of it."""

    def __init__(self, world: World, owner: Owner, command: Train) -> None:
        self._world = world
        self._owner = owner
        self._command = command
        self._machine: Machine = world.cluster.machines[command.node]
        self._attempt_id = command.spec.attempt_id
        self._over = False

    def begin(self) -> None:
        """Run it, or take over what runs."""
        self._machine.watchers.append(self.lose)
        if self._machine.up:
            self._world.clock.after(self._world.faults.takes(STARTING_S), self._ready)
        else:
            self._world.clock.after(MOMENT_S, self.lose)

    def lose(self) -> None:
        """The machine is not to be seen any more, and whatever became of the attempt, its watcher is gone."""
        if self._over:
            return
        self._over = True
        if self._owner.alive:
            self._fail("node_lost", f"{self._machine.node_id} was lost", gone=False)

    def _ready(self) -> None:
        """Run it. What a driver that is dead by then has asked the machine for may start all the same."""
        if self._over:
            return
        if self._owner.alive:
            self._run()
        elif self._may_start() and self._world.faults.outlives():
            self._machine.containers[self._attempt_id] = self._container()

    def _may_start(self) -> bool:
        machine, known = self._machine, {*self._machine.containers, *self._machine.outcomes, *self._machine.removed}
        able = machine.up and machine.engine_up and machine.holds(self._command.spec)
        return able and self._attempt_id not in known

    def _run(self) -> None:
        machine, running = self._machine, self._machine.containers.get(self._attempt_id)
        if self._attempt_id in machine.outcomes:
            self._report()
        elif running:
            self._tell_running(running)
            self._step(max(0.0, running.ends_at - self._world.clock.seconds), self._exited)
        elif self._attempt_id in machine.removed:
            self._fail("removed", "it may not start here any more", gone=True)
        elif not machine.engine_up:
            self._fail("engine_down", "the container engine does not answer", gone=True)
        elif not machine.holds(self._command.spec):
            self._fail("not_staged", "its image and data are gone from the machine", gone=True)
        else:
            self._start()

    def _start(self) -> None:
        container = self._container()
        self._machine.containers[self._attempt_id] = container
        self._tell_running(container)
        self._step(container.ends_at - self._world.clock.seconds, self._exited)

    def _container(self) -> Container:
        """What starts now; whether it may is held against the truth."""
        spec, script, clock = self._command.spec, self._world.script, self._world.clock
        kind, gpus = spec.gpu_requirement.gpu_type, spec.gpu_requirement.gpus
        indices = tuple(self._machine.free(kind)[:gpus])
        if len(indices) < gpus:
            found = f"{len(indices)} of {gpus} GPUs free on {self._machine.node_id}"
            self._world.broken.append(f"{self._attempt_id} was let start and finds {found}")
        if otherwise := unlike(spec, self._world.leased.get(self._attempt_id)):
            self._world.broken.append(f"{self._attempt_id} was let start {otherwise}")
        t = self._owner.state.tournaments[spec.tournament_id]
        place = t.tasks[spec.task_id].place
        failures = training_of(self._owner.state, spec.tournament_id, spec.task_id, spec.hotkey).miner_failures
        share = min(1.0, script.share_of_time(place, spec.hotkey, failures))
        return Container(
            attempt_id=self._attempt_id,
            gpu_type=kind,
            indices=indices,
            image_id=spec.image_id,
            ends_at=clock.seconds + share * spec.hours_to_complete * 3600,
            outcome=script.outcome(place, spec.hotkey, failures, self._attempt_id),
        )

    def _tell_running(self, container: Container) -> None:
        spec = self._command.spec
        running = e.AttemptRunning(
            tournament_id=spec.tournament_id,
            task_id=spec.task_id,
            hotkey=spec.hotkey,
            attempt_id=self._attempt_id,
            gpu_indices=container.indices,
            image_id=container.image_id,
        )
        self._tell(running, done=False)

    def _exited(self) -> None:
        container = self._machine.containers.pop(self._attempt_id, None)
        if container:
            self._machine.outcomes[self._attempt_id] = container.outcome
        if self._attempt_id not in self._machine.outcomes:
            return  # it was released, so nobody waits for it
        self._tell(lease_ended(self._command, "its container is gone"), done=False)
        self._step(self._world.faults.takes(COLLECTING_S), self._report)

    def _report(self) -> None:
        outcome = self._machine.outcomes.get(self._attempt_id)
        if outcome is None:
            return  # the machine has just lost power, and its watchers are about to be told
        self._tell(lease_ended(self._command, "its container is gone"), attempt_ended(self._command, outcome))

    def _fail(self, kind: str, reason: str, *, gone: bool) -> None:
        if gone:
            self._machine.removed.add(self._attempt_id)  # no other watcher may start what this one says is gone
        failed = attempt_ended(self._command, Failed(blame=Blame.PLATFORM, kind=kind, reason=reason))
        self._tell(*((lease_ended(self._command, "it never started"),) if gone else ()), failed)

    def _step(self, seconds: float, then: Callable[[], None]) -> None:
        """Go on after so long, unless the driver is dead by then or the machine was lost."""
        self._world.clock.after(seconds, lambda: then() if self._owner.alive and not self._over else None)

    def _tell(self, *facts: e.Fact, done: bool = True) -> None:
        send(self._world, self._owner, Outcome(self._command.command_id, facts, done))


def unlike(spec: TrainingSpec, intent: e.AttemptStarted | None) -> str:
    """In what a container differs from what was recorded before it started; empty when it is as recorded."""
    if intent is None:
        return "and nothing is leased to it"
    terms = terms_in(spec)
    if terms != intent.terms:
        return f"on {terms}, {intent.terms} are recorded"
    return "" if spec.tree_hash == intent.tree_hash else f"with tree {spec.tree_hash}, {intent.tree_hash} is recorded"
