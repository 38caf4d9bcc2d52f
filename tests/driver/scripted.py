"""A driver's loop on a real journal whose commands are carried out by the test: nothing ends before it says so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tests.builders import CHAMPION, START, credit, data, evaluated, miners, number_of, offer, seeds
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
from tourney_ray.core.leases import Cluster, Seat
from tourney_ray.core.models import Blame, Failed, GpuRequirement, TaskType, TournamentType, Trained
from tourney_ray.core.nodes import Node
from tourney_ray.core.rules import Rules
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import Training
from tourney_ray.driver import outcomes
from tourney_ray.driver.loop import Loop, Outcome
from tourney_ray.store.journal import Journal
from tourney_ray.store.lines import read_lines

RULES = Rules(
    min_miners=4,
    knockout_task_shares={TaskType.INSTRUCT: 1.0},
    boss_tasks=(TaskType.INSTRUCT, TaskType.INSTRUCT),
)
"""Four entrants, a semi-final, a final and a boss round of two tasks."""

AGENDA = Agenda((TournamentType.TEXT,), rules=RULES)
EIGHT = Cluster((Node("n1", {"H100": 8}),))
NODE_LOST = Failed(blame=Blame.PLATFORM, kind="node_lost", reason="its node was lost")
Pick = Callable[[Sequence[Command]], Command]
C = TypeVar("C", bound=Command)


def first(running: Sequence[Command]) -> Command:
    """The one that was started first."""
    return running[0]


@dataclass
class Scripted:
    """A dispatcher that only remembers, and looks into the journal when it is asked to train."""

    journal: Journal
    nodes: Cluster = EIGHT
    dispatched: list[Command] = field(default_factory=list[Command])
    demands: list[Sequence[GpuRequirement]] = field(default_factory=list[Sequence[GpuRequirement]])
    seats: Sequence[Seat] = ()

    def cluster(self) -> Cluster:
        return self.nodes

    def announce(self, demand: Sequence[GpuRequirement], seats: Sequence[Seat]) -> None:
        self.demands.append(demand)
        self.seats = seats

    def dispatch(self, command: Command) -> None:
        if isinstance(command, Train):
            assert command.spec.attempt_id in intents(self.journal), "training begins before its intent is recorded"
        self.dispatched.append(command)


@dataclass
class Rig:
    """One life of a driver: a loop, what it has started, and a clock that stands still unless it is moved."""

    journal: Journal
    agenda: Agenda = AGENDA
    nodes: Cluster = EIGHT
    entrants: int = 4
    now: datetime = START
    wake_at: datetime | None = None
    ended: set[str] = field(default_factory=set[str])
    after_step: Callable[[Rig], None] = lambda rig: None

    def __post_init__(self) -> None:
        self.dispatcher = Scripted(self.journal, self.nodes)
        self.loop = Loop(self.journal, self.dispatcher, self.agenda)

    @property
    def running(self) -> list[Command]:
        """What was started and has not ended."""
        return [command for command in self.dispatcher.dispatched if command.command_id not in self.ended]

    @property
    def ids(self) -> list[str]:
        """Ids of all that was ever started, in order."""
        return [command.command_id for command in self.dispatcher.dispatched]

    def of(self, kind: type[C]) -> list[C]:
        """What runs of that kind."""
        return [command for command in self.running if isinstance(command, kind)]

    def only(self, kind: type[C]) -> C:
        """The only running command of that kind."""
        (found,) = self.of(kind)
        return found

    def step(self, *outcomes: Outcome, after_s: float = 1.0) -> None:
        """Let the loop take these outcomes, a second after the last ones."""
        self.now += timedelta(seconds=after_s)
        self.ended |= {outcome.command_id for outcome in outcomes if outcome.done}
        self.wake_at = self.loop.step(outcomes, self.now)
        self.after_step(self)

    def sleep(self) -> None:
        """Step at the moment at which the loop wanted to be woken."""
        assert self.wake_at is not None
        self.now = self.wake_at
        self.step(after_s=0)

    def outcome(self, command: Command) -> Outcome:
        """How the command ends when all goes well."""
        return Outcome(command.command_id, self._facts(command))

    def finish(self, *commands: Command) -> None:
        """Let these commands end well, all in one step."""
        self.step(*map(self.outcome, commands))

    def go_on(self, until: Callable[[Rig], bool] = lambda rig: False, pick: Pick = first) -> None:
        """Let one command after the other end well, until a condition holds or nothing runs any more."""
        if not self.dispatcher.dispatched:
            self.step()
        while self.running and not until(self):
            self.finish(pick(self.running))

    def _facts(self, command: Command) -> tuple[e.Fact, ...]:  # noqa: PLR0911 - a line per command
        match command:
            case Announce():
                return (created(command, len(self.journal.state.tournaments) + 1),)
            case AskMiners():
                return self._answers(command)
            case RevealDrawSeed():
                draw_seed, _ = self._seeds(command.tournament_id)
                return (e.TournamentActivated(tournament_id=command.tournament_id, draw_seed=draw_seed),)
            case RevealSecretSeed():
                _, secret_seed = self._seeds(command.tournament_id)
                return (e.SecretRevealed(tournament_id=command.tournament_id, secret_seed=secret_seed),)
            case PrepareTask():
                return (prepared(command),)
            case Stage():
                return (built(command),)
            case Train():
                trained = Trained(checkpoint=f"out/{command.spec.attempt_id}", seconds=1.0)
                return lease_ended(command), train_ended(command, trained)
            case Release():
                return (lease_ended(command),)
            case Evaluate():
                return (measured(command),)

    def _seeds(self, tournament_id: str) -> tuple[str, str]:
        return seeds(number_of(self.journal.state, tournament_id))

    def _answers(self, command: AskMiners) -> tuple[e.Fact, ...]:
        asked = [hotkey for hotkey in miners(self.entrants) if hotkey not in command.known]
        money = [credit(hotkey) for hotkey in asked]
        fresh = [transfer for transfer in money if transfer.transfer_id not in self.journal.state.transfers]
        answers = tuple(map(offer, asked))
        return (
            *fresh,
            e.RegistrationPassed(tournament_id=command.tournament_id, number=command.number, answers=answers),
        )


OpenRig = Callable[..., Rig]
"""Opens the journal of the test, in a new life of its driver; takes what a rig takes."""


def champion(journal: Journal) -> str | None:
    """Who won the only tournament, which has to be over, its secret seed revealed."""
    (t,) = journal.state.tournaments.values()
    assert t.completed
    assert t.secret_seed
    return t.completed.winner


def intents(journal: Journal) -> set[str]:
    """Attempts whose start is on the disk, by the journal's lines."""
    facts = (entry.fact for entry in read_lines(journal._lines.path, growing=True))
    return {fact.attempt_id for fact in facts if isinstance(fact, e.AttemptStarted)}


def kinds(journal: Journal) -> list[str]:
    """Kinds of all recorded facts."""
    return [entry.kind for entry in journal.entries()]


def trainings(journal: Journal) -> list[Training]:
    """All trainings of all tournaments."""
    tournaments = journal.state.tournaments.values()
    return [training for t in tournaments for task in t.tasks.values() for training in task.trainings.values()]


def training(rig: Rig, command: Train) -> Training:
    """What has become of the training that the command belongs to."""
    tournament = rig.journal.state.tournaments[command.tournament_id]
    return tournament.tasks[command.spec.task_id].trainings[command.spec.hotkey]


def trains(rig: Rig) -> bool:
    """Whether all that runs is trainings."""
    return all(isinstance(command, Train) for command in rig.running)


def created(command: Announce, number: int = 1) -> e.TournamentCreated:
    """The announced tournament; a base contestant defends the first one."""
    draw_seed, secret_seed = seeds(number)
    return e.TournamentCreated(
        tournament_id=f"{command.tournament_type.value}-{command.number}",
        tournament_type=command.tournament_type,
        rules=command.rules,
        draw_commitment=commitment(draw_seed),
        secret_commitment=commitment(secret_seed),
        champion=command.champion or offer(CHAMPION),
        champion_wins=command.champion_wins,
        because="scripted",
    )


def prepared(command: PrepareTask) -> e.TaskPrepared:
    """A task of a model that needs one H100, or two in the boss round."""
    big = command.round_type.value == "boss"
    params = 5 * 10**9 if big else 10**9
    return _of_task(command, e.TaskPrepared, task_type=TaskType.INSTRUCT, hours=1.0, data=data(params=params))


def preparation_failed(command: PrepareTask) -> e.TaskPreparationFailed:
    """The task cannot be made."""
    return _of_task(command, e.TaskPreparationFailed, reason="no rows")


def train_ended(command: Train, outcome: Trained | Failed) -> e.AttemptEnded:
    """The attempt is over."""
    return _of_attempt(command, e.AttemptEnded, outcome=outcome)


def built(command: Stage, which: int = 1) -> e.ImageBuilt:
    """The image of the command's entrant, the `which`-th that was built of its tree, lies on its node."""
    digest = hashlib.sha256(f"{command.spec.tree_hash}{which}".encode()).hexdigest()
    return outcomes.image_built(command, f"sha256:{digest}", "d" * 64, (), 60.0, "built from the tree")


def lease_ended(command: Train | Release) -> e.LeaseEnded:
    """Nothing of the attempt runs any more."""
    return _of_attempt(command, e.LeaseEnded, because="it is gone")


def train_runs(command: Train) -> Outcome:
    """Progress: the attempt's code runs."""
    return Outcome(command.command_id, (_of_attempt(command, e.AttemptRunning),), done=False)


def measured(command: Evaluate) -> e.CheckpointEvaluated:
    """A loss by which `m03` is the best; the champion is beaten by anyone."""
    skill = -20.0 if command.hotkey == CHAMPION else float(command.hotkey[1:])
    digest = hashlib.sha256(f"{command.task_id}|{command.hotkey}".encode()).hexdigest()
    return _of_evaluation(command, e.CheckpointEvaluated, result=evaluated(30.0 - skill, digest))


def evaluation_failed(command: Evaluate) -> e.EvaluationFailed:
    """The evaluator died."""
    return _of_evaluation(command, e.EvaluationFailed, reason="the evaluator was killed")


def _of_task(command: PrepareTask, fact: Any, **fields: Any) -> Any:
    where = {name: getattr(command, name) for name in ("tournament_id", "task_id", "match_id", "slot")}
    return fact(**where, **fields)


def _of_attempt(command: Train | Release, fact: Any, **fields: Any) -> Any:
    where = {name: getattr(command.spec, name) for name in ("tournament_id", "task_id", "hotkey", "attempt_id")}
    return fact(**where, **fields)


def _of_evaluation(command: Evaluate, fact: Any, **fields: Any) -> Any:
    where = {name: getattr(command, name) for name in ("tournament_id", "task_id", "hotkey", "number")}
    return fact(**where, **fields)
