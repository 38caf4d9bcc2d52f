"""Tournaments in which a test decides everything: the order of events, what every training leaves, every metric."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.builders import CHAMPION, CLUSTER, Stage, credit, data, evaluated, number_of, offer, seeds
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
    Stage as StageCommand,
    Train,
)
from tourney_ray.core.draw import commitment
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.evolve import is_known
from tourney_ray.core.leases import Cluster
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import (
    Blame,
    Entrant,
    Evaluated,
    Failed,
    RoundStatus,
    TaskType,
    TournamentType,
    Trained,
    TrainingSpec,
)
from tourney_ray.core.plan import Plan, plan
from tourney_ray.core.preparation import prepared_from_history, task_request
from tourney_ray.core.rules import Rules
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.staging import put
from tourney_ray.core.state import Reign, Task, Tournament
from tourney_ray.driver import outcomes

CRASH = Failed(blame=Blame.MINER, kind="TrainingCrashed", reason="exit status 1")
NODE_LOST = Failed(blame=Blame.PLATFORM, kind="NodeLost", reason="n1 went away")


def trained(spec: TrainingSpec) -> Trained:
    """A training that goes well."""
    return Trained(checkpoint=f"out/{spec.attempt_id}", seconds=1.0)


def by_number(command: Evaluate) -> Evaluated:
    """A metric by which `m07` is better than `m06`, and any of them beats the champion by far."""
    skill = -50.0 if command.hotkey == CHAMPION else float(command.hotkey[1:])
    return measured(command, METRICS[command.task_type].improved(100.0, skill))


def measured(command: Evaluate, value: float) -> Evaluated:
    """That metric, of weights that nobody else has."""
    return evaluated(value, hashlib.sha256(f"{command.task_id}|{command.hotkey}".encode()).hexdigest())


@dataclass
class Arena:
    """A stage and the world that answers its commands, one fact at a time."""

    entrants: Sequence[str] = ()
    champion: Entrant | None = field(default_factory=lambda: offer(CHAMPION))
    champion_wins: int = 0
    """More than 0: the champion reigns before the first tournament."""
    beacon: str = ""
    rules: Rules = field(default_factory=Rules)
    trains: Callable[[TrainingSpec], Trained | Failed] = trained
    measures: Callable[[Evaluate], Evaluated | NotEvaluated | None] = by_number
    """None: the evaluator fails."""
    values: Mapping[tuple[int, str], float] = field(default_factory=dict[tuple[int, str], float])
    """Metrics by (round number, hotkey) that go before `measures`."""
    builds: Callable[[TrainingSpec], Failed | None] = lambda spec: None
    """How the build of an image fails, when staging is asked for and it does."""
    prepares: Callable[[PrepareTask], bool] = lambda command: True
    cluster: Cluster = CLUSTER
    agenda: Agenda = field(default_factory=Agenda)
    """Empty: a test opens its tournaments itself."""
    stage: Stage = field(default_factory=Stage)
    unpaid: Sequence[str] = ()
    """Entrants whose account is empty."""
    tournament_id: str = ""
    """The latest one opened."""

    @property
    def tournament(self) -> Tournament:
        return self.stage.state.tournaments[self.tournament_id]

    @property
    def kinds(self) -> list[str]:
        """Kinds of all facts so far."""
        return [fact.kind for fact, _ in self.stage.facts]

    def open(self, kind: TournamentType = TournamentType.TEXT) -> Arena:
        """Fill the accounts and announce a tournament."""
        number = len(self.stage.state.tournaments) + 1
        for hotkey in self.entrants:
            if hotkey not in self.unpaid:
                self.stage.record(credit(hotkey, number=number))
        self.tournament_id = f"{kind.value}-{number}"
        if self.champion and self.champion_wins and not self.stage.state.reigns:
            reign = Reign(self.champion, self.champion_wins, 0.0, "before")
            self.stage.state = replace(self.stage.state, reigns={kind: reign})
        self.stage.record(
            e.TournamentCreated(
                tournament_id=self.tournament_id,
                tournament_type=kind,
                rules=self.rules,
                draw_commitment=commitment(seeds(number)[0]),
                secret_commitment=commitment(seeds(number)[1]),
                champion=self.champion,
                champion_wins=self.champion_wins,
                beacon=self.beacon,
                because="tested",
            )
        )
        return self

    def plan(self) -> Plan:
        self.stage.see(self.cluster)
        return plan(self.stage.state, self.stage.at, self.agenda, self.cluster)

    def step(self, pick: Callable[[Sequence[Command]], Command] = lambda commands: commands[0]) -> bool:
        """Let one thing happen; False when nothing is left to do."""
        now = self.plan()
        if now.commands:
            self.do(pick(now.commands))
        elif now.wake_at:
            self.stage.at = min(now.wake_at)
        return bool(now.commands or now.wake_at)

    def run(self, pick: Callable[[Sequence[Command]], Command] = lambda commands: commands[0]) -> Tournament:
        """The latest tournament, played to its end."""
        while self.step(pick):
            pass
        return self.tournament

    def until_active(self, round_number: int = 1) -> Arena:
        """Go on until that round is active."""
        while not (
            len(self.tournament.rounds) >= round_number
            and self.tournament.rounds[round_number - 1].status is RoundStatus.ACTIVE
        ):
            assert self.step()
        return self

    def tasks(self, round_number: int) -> list[Task]:
        """Tasks of a round, by match and slot."""
        matches = self.tournament.rounds[round_number - 1].matches.values()
        return [self.tournament.tasks[task_id] for match in matches for _, task_id in sorted(match.tasks.items())]

    def do(self, command: Command) -> None:
        """The next fact of that command: the intent of a training, else its outcome."""
        match command:
            case Announce():
                self.champion, self.champion_wins = command.champion or self.champion, command.champion_wins
                self.open(command.tournament_type)
            case AskMiners():
                answers = tuple(offer(h) for h in self.entrants if h not in command.known)
                passed = e.RegistrationPassed(
                    tournament_id=command.tournament_id, number=command.number, answers=answers
                )
                self.stage.record(passed)
            case RevealDrawSeed():
                draw_seed, _ = self._seeds(command.tournament_id)
                self.stage.record(e.TournamentActivated(tournament_id=command.tournament_id, draw_seed=draw_seed))
            case RevealSecretSeed():
                _, secret_seed = self._seeds(command.tournament_id)
                self.stage.record(e.SecretRevealed(tournament_id=command.tournament_id, secret_seed=secret_seed))
            case PrepareTask():
                self._prepare(command)
            case StageCommand():
                self._stage(command)
            case Train():
                self._train(command)
            case Release():
                self.stage.record(e.LeaseEnded(**_attempt(command), because="it is gone"))
            case Evaluate():
                self._evaluate(command)

    def _seeds(self, tournament_id: str) -> tuple[str, str]:
        return seeds(number_of(self.stage.state, tournament_id))

    def _prepare(self, c: PrepareTask) -> None:
        where: dict[str, Any] = {
            "tournament_id": c.tournament_id,
            "task_id": c.task_id,
            "match_id": c.match_id,
            "slot": c.slot,
        }
        if not self.prepares(c):
            self.stage.record(e.TaskPreparationFailed(**where, reason="no rows"))
            return
        t = self.stage.state.tournaments[c.tournament_id]
        _, secret = self._seeds(c.tournament_id)
        if repeated := prepared_from_history(self.stage.state, c, secret):
            self.stage.record(repeated)
            return
        chosen = task_request(t, c, secret)
        params = int(chosen.model_range_b[0] * 10**9) if chosen.task_type is not TaskType.IMAGE else 1
        self.stage.record(e.TaskPrepared(**where, task_type=chosen.task_type, hours=2, data=data(params=params)))

    def _stage(self, c: StageCommand) -> None:
        failed = None if c.image else self.builds(c.spec)
        if failed:
            self.stage.record(staging_failed(c, failed))
            return
        if c.image is None:
            self.stage.record(image_built(c))
        task_id, image = c.spec.task_id, self.tournament.images[c.spec.hotkey]
        staged = dict(self.cluster.staged or {})
        staged[task_id] = put(staged.get(task_id, {}), f"{task_id}.{c.spec.hotkey}", c.node, image.image_id)
        self.cluster = replace(self.cluster, staged=staged)

    def _train(self, c: Train) -> None:
        if c.intent:
            self.stage.record(c.intent)
            return
        node = self.stage.state.nodes.get(c.node)
        if node is None or node.lost_at:
            self.stage.record(e.AttemptEnded(**_attempt(c), outcome=NODE_LOST))
            return
        ended = e.LeaseEnded(**_attempt(c), because="it is gone")
        if not is_known(self.stage.state, ended):
            self.stage.record(ended)
        self.stage.record(e.AttemptEnded(**_attempt(c), outcome=self.trains(c.spec)))

    def _evaluate(self, c: Evaluate) -> None:
        where: dict[str, Any] = {
            "tournament_id": c.tournament_id,
            "task_id": c.task_id,
            "hotkey": c.hotkey,
            "number": c.number,
        }
        latest = len(self.stage.state.tournaments[c.tournament_id].rounds)
        scripted = self.values.get((latest, c.hotkey))
        result = self.measures(c) if scripted is None else measured(c, scripted)
        if result is None:
            self.stage.record(e.EvaluationFailed(**where, reason="the evaluator was killed"))
        elif isinstance(result, NotEvaluated):
            self.stage.record(e.EvaluationFailed(**where, reason=result.reason, died=result.died))
        else:
            self.stage.record(e.CheckpointEvaluated(**where, result=result))


def image_of(spec: TrainingSpec, which: int = 1) -> str:
    """Id of the image of a tree, the `which`-th that was built of it."""
    return f"sha256:{hashlib.sha256(f'{spec.tree_hash}{which}'.encode()).hexdigest()}"


def image_built(c: StageCommand, which: int = 1) -> e.ImageBuilt:
    """The image that was asked for is there."""
    return outcomes.image_built(c, image_of(c.spec, which), "d" * 64, ["sha256:base"], 60.0, "built from the tree")


def staging_failed(c: StageCommand, failed: Failed) -> e.StagingFailed:
    """The image that was asked for cannot be built."""
    return outcomes.staging_failed(c, failed)


def _attempt(c: Train | Release) -> dict[str, Any]:
    where = c.spec.model_dump(include={"task_id", "hotkey", "attempt_id"})
    return {"tournament_id": c.tournament_id, **where}
