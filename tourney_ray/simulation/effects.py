"""The dispatcher of the simulation: commands become events of a virtual world, and what comes of them outcomes.

What a driver started dies with it, except containers, which go on until their own end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

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
    Stage,
    Train,
)
from tourney_ray.core.draw import commitment
from tourney_ray.core.ids import generate_tournament_id
from tourney_ray.core.leases import Cluster, Seat
from tourney_ray.core.models import GpuRequirement, TournamentType
from tourney_ray.core.preparation import prepared_from_history, task_prepared, task_request
from tourney_ray.core.state import Tournament
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.outcomes import evaluation_failed, lease_ended, preparation_failed
from tourney_ray.simulation.miners import entrant, task_data
from tourney_ray.simulation.stager import Stager
from tourney_ray.simulation.watcher import Watcher
from tourney_ray.simulation.world import MOMENT_S, Owner, World, send, training_of

ASKING_S, PREPARING_S, EVALUATING_S = 20.0, 300.0, 120.0


class VirtualDispatcher:
    """Carries commands out in a virtual world, for one life of a driver."""

    def __init__(self, world: World, owner: Owner) -> None:
        self._world = world
        self._owner = owner

    def cluster(self) -> Cluster:
        """The machines that are up, what lies on them, and whose engine does not answer."""
        up = [machine for machine in self._world.cluster.machines.values() if machine.up]
        unfit = {m.node_id: "its container engine does not answer" for m in up if not m.engine_up}
        return Cluster(self._world.cluster.seen(), staged=self._world.cluster.lies, unfit=unfit)

    def announce(self, demand: Sequence[GpuRequirement], seats: Sequence[Seat]) -> None:
        """Nobody scales a virtual cluster."""

    def dispatch(self, command: Command) -> None:
        """Start the command, if the driver does not die of it."""
        self._world.faults.crash()
        self._start(command)
        self._world.faults.crash()

    def _start(self, command: Command) -> None:
        match command:
            case Stage():
                Stager(self._world, self._owner, command).begin()
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
            self._tell(command, evaluation_failed(command, "the evaluator died", died=not command.deaths))
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
