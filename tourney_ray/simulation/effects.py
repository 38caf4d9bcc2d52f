"""The dispatcher of the simulation: commands become events of a virtual world, and what comes of them outcomes.

What a driver started dies with it, except containers, which go on until their own end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tourney_ray.core import events as e
from tourney_ray.core.commands import (
    Announce,
    AskMiners,
    Command,
    Evaluate,
    PrepareTask,
    Release,
    RevealDrawSeed,
    RevealSecretSeed,
    Train,
)
from tourney_ray.core.draw import commitment
from tourney_ray.core.ids import generate_tournament_id
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Blame, Failed, GpuRequirement, TournamentType
from tourney_ray.core.preparation import prepared_from_history, task_prepared, task_request
from tourney_ray.core.state import State, Tournament, Training
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.outcomes import attempt_ended, evaluation_failed, lease_ended, preparation_failed
from tourney_ray.simulation.clock import VirtualClock
from tourney_ray.simulation.cluster import Container, Machine, VirtualCluster
from tourney_ray.simulation.faults import Faults
from tourney_ray.simulation.miners import Script, entrant, image_of, task_data

ASKING_S, PREPARING_S, STAGING_S, COLLECTING_S, EVALUATING_S, MOMENT_S = 20.0, 300.0, 60.0, 30.0, 120.0, 1.0


@dataclass
class World:
    """What exists whether or not a driver does."""

    clock: VirtualClock
    cluster: VirtualCluster
    script: Script
    faults: Faults
    broken: list[str]
    """Promises that the driver did not keep."""
    driver: Owner | None = None
    """The life that has the driver's name now; None between two."""


class Owner(Protocol):
    """A driver's life, as what it started sees it."""

    @property
    def alive(self) -> bool:
        """Whether it still is."""
        ...

    @property
    def state(self) -> State:
        """What its journal says."""
        ...

    def hear(self, outcome: Outcome) -> None:
        """Take an outcome in."""
        ...


class VirtualDispatcher:
    """Carries commands out in a virtual world, for one life of a driver."""

    def __init__(self, world: World, owner: Owner) -> None:
        self._world = world
        self._owner = owner

    def cluster(self) -> Cluster:
        """The machines that are up."""
        return Cluster(self._world.cluster.seen())

    def announce(self, demand: Sequence[GpuRequirement]) -> None:
        """Nobody scales a virtual cluster."""

    def dispatch(self, command: Command) -> None:
        """Start the command, if the driver does not die of it."""
        self._world.faults.crash()
        self._start(command)
        self._world.faults.crash()

    def _start(self, command: Command) -> None:
        match command:
            case Train():
                Watcher(self._world, self._owner, command).begin()
            case Release():
                self._later(MOMENT_S, lambda: self._release(command))
            case Evaluate():
                self._later(EVALUATING_S, lambda: self._evaluate(command))
            case PrepareTask():
                self._later(PREPARING_S, lambda: self._tell(command, self._prepared(command)))
            case AskMiners():
                self._later(ASKING_S, lambda: self._tell(command, *self._answers(command)))
            case Announce():
                self._later(MOMENT_S, lambda: self._tell(command, self._created(command)))
            case RevealDrawSeed() | RevealSecretSeed():
                self._later(MOMENT_S, lambda: self._tell(command, self._revealed(command)))

    # --- tournaments

    def _created(self, command: Announce) -> e.TournamentCreated:
        draw, secret = (self._seed(command.tournament_type, command.number, purpose) for purpose in ("draw", "secret"))
        kind = command.tournament_type
        return e.TournamentCreated(
            tournament_id=generate_tournament_id(kind, commitment(draw), self._world.clock.shown()),
            tournament_type=kind,
            rules=command.rules,
            draw_commitment=commitment(draw),
            secret_commitment=commitment(secret),
            champion=command.champion or entrant(f"{kind.value}-base-999"),
            champion_wins=command.champion_wins,
            because="simulated",
        )

    def _revealed(self, command: RevealDrawSeed | RevealSecretSeed) -> e.Fact:
        t = self._tournament(command.tournament_id)
        if isinstance(command, RevealDrawSeed):
            return e.TournamentActivated(tournament_id=t.tournament_id, draw_seed=self._seed_of(t, "draw"))
        return e.SecretRevealed(tournament_id=t.tournament_id, secret_seed=self._seed_of(t, "secret"))

    def _answers(self, command: AskMiners) -> list[e.Fact]:
        script, kind = self._world.script, command.tournament_type
        asked = [hotkey for hotkey in script.hotkeys(kind) if hotkey not in command.known]
        answers = tuple(script.answer(hotkey, command.number) for hotkey in asked)
        passed = e.RegistrationPassed(tournament_id=command.tournament_id, number=command.number, answers=answers)
        return [*script.transfers(kind, command.number), passed]

    def _prepared(self, c: PrepareTask) -> e.Fact:
        t, script = self._tournament(c.tournament_id), self._world.script
        secret = self._seed_of(t, "secret")
        if repeated := prepared_from_history(self._owner.state, c, secret):
            return repeated
        request = task_request(t, c, secret)
        params = script.params(c.place, *request.model_range_b)
        if not script.prepares(c.place):
            return preparation_failed(c, "the data set cannot be had", params)
        return task_prepared(t, c, request.task_type, task_data(c.place, params), secret)

    # --- trainings

    def _release(self, command: Release) -> None:
        machine = self._world.cluster.machines[command.node]
        if not machine.up:
            self._owner.hear(Outcome(command.command_id))
            return
        attempt_id = command.spec.attempt_id
        machine.removed.add(attempt_id)
        machine.containers.pop(attempt_id, None)
        self._tell(command, lease_ended(command, "its container is gone"))

    def _evaluate(self, command: Evaluate) -> None:
        if self._world.faults.strikes("evaluator", 0.1):
            self._tell(command, evaluation_failed(command, "the evaluator died"))
            return
        training = training_of(self._owner.state, command.tournament_id, command.task_id, command.hotkey)
        place = self._tournament(command.tournament_id).tasks[command.task_id].place
        failures = training.miner_failures
        result = self._world.script.evaluated(command.task_type, place, command.hotkey, failures)
        measured = e.CheckpointEvaluated(
            tournament_id=command.tournament_id,
            task_id=command.task_id,
            hotkey=command.hotkey,
            number=command.number,
            result=result,
        )
        self._tell(command, measured)

    # --- time and seeds

    def _later(self, usual_s: float, effect: Callable[[], None]) -> None:
        """Let the effect happen when it has taken its time, unless whoever wanted it is dead by then."""
        self._world.clock.after(self._world.faults.takes(usual_s), lambda: effect() if self._owner.alive else None)

    def _tell(self, command: Command, *facts: e.Fact) -> None:
        send(self._world, self._owner, Outcome(command.command_id, facts))

    def _tournament(self, tournament_id: str) -> Tournament:
        return self._owner.state.tournaments[tournament_id]

    def _seed_of(self, t: Tournament, purpose: str) -> str:
        same = [o for o in self._owner.state.tournaments.values() if o.tournament_type is t.tournament_type]
        return self._seed(t.tournament_type, same.index(t) + 1, purpose)

    def _seed(self, tournament_type: TournamentType, number: int, purpose: str) -> str:
        text = f"{self._world.script.seed}|{tournament_type.value}|{number}|{purpose}"
        return hashlib.sha256(text.encode()).hexdigest()


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
        """Stage what the attempt needs, then run it."""
        self._machine.watchers.append(self.lose)
        if self._machine.up:
            self._step(self._world.faults.takes(STAGING_S), self._run)
        else:
            self._world.clock.after(MOMENT_S, self.lose)

    def lose(self) -> None:
        """The machine is not to be seen any more, and whatever became of the attempt, its watcher is gone."""
        if self._owner.alive and not self._over:
            self._over = True
            self._fail("node_lost", f"{self._machine.node_id} was lost", gone=False)

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
        else:
            self._start()

    def _start(self) -> None:
        spec, script, clock = self._command.spec, self._world.script, self._world.clock
        kind, gpus = spec.gpu_requirement.gpu_type, spec.gpu_requirement.gpus
        indices = tuple(self._machine.free(kind)[:gpus])
        if len(indices) < gpus:
            found = f"{len(indices)} of {gpus} GPUs free on {self._machine.node_id}"
            self._world.broken.append(f"{self._attempt_id} was let start and finds {found}")
        t = self._owner.state.tournaments[spec.tournament_id]
        place = t.tasks[spec.task_id].place
        failures = training_of(self._owner.state, spec.tournament_id, spec.task_id, spec.hotkey).miner_failures
        share = min(1.0, script.share_of_time(place, spec.hotkey, failures))
        container = Container(
            attempt_id=self._attempt_id,
            gpu_type=kind,
            indices=indices,
            image_id=image_of(spec.hotkey),
            ends_at=clock.seconds + share * spec.hours_to_complete * 3600,
            outcome=script.outcome(place, spec.hotkey, failures, self._attempt_id),
        )
        self._machine.containers[self._attempt_id] = container
        self._tell_running(container)
        self._step(container.ends_at - clock.seconds, self._exited)

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
        gone = lease_ended(self._command, "its container is gone")
        self._tell(gone, attempt_ended(self._command, self._machine.outcomes[self._attempt_id]))

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


def send(world: World, owner: Owner, outcome: Outcome) -> None:
    """Let the driver hear of it, once or twice, soon or late; progress reaches whoever has the name by then."""

    def arrive() -> None:
        listener = owner if outcome.done else world.driver
        if listener and listener.alive:
            listener.hear(outcome)

    for delay_s in world.faults.delays(MOMENT_S):
        world.clock.after(delay_s, arrive)


def training_of(state: State, tournament_id: str, task_id: str, hotkey: str) -> Training:
    """The training that a command is about."""
    return state.tournaments[tournament_id].tasks[task_id].trainings[hotkey]
