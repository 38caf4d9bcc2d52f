"""A tournament of one type whose group round is one task of as many trainings as wanted, played by the core alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tourney_ray.core import events as e
from tourney_ray.core.commands import AskMiners, Command, Evaluate, PrepareTask, RevealDrawSeed, Train
from tourney_ray.core.draw import commitment
from tourney_ray.core.leases import Cluster, news_of_nodes
from tourney_ray.core.models import Entrant, Evaluated, TaskData, TaskType, TournamentType, Trained
from tourney_ray.core.nodes import Node
from tourney_ray.core.plan import plan
from tourney_ray.core.rules import Rules
from tourney_ray.core.settle import forced
from tourney_ray.core.state import State
from tourney_ray.driver.outcomes import attempt_ended, lease_ended

AT = datetime(2026, 1, 1, tzinfo=UTC)
SEED = "11" * 32
TOURNAMENT = "tourn_bench"
GPUS_PER_NODE = 8
HOURS = 2
"""Time limit of every training."""

DATA = TaskData(
    model_id="org/tiny",
    model_params=10**9,
    model_path="models/tiny",
    dataset_path="data/train.json",
    dataset_sha256="0" * 64,
    dataset_rows=1000,
    test_path="data/test.json",
    test_sha256="1" * 64,
    test_rows=1,
    sequence_len=512,
)


@dataclass
class GroupRound:
    """The state so far and the facts that led to it. Every command's answer is the plainest one that goes well."""

    entrants: int
    """More than 8: so many go through one group, with one training each."""
    cluster: Cluster
    rules: Rules = field(default_factory=lambda: Rules(knockout_at_most=8))
    tournament_id: str = TOURNAMENT
    params: int = DATA.model_params
    """Of the model: it decides how many GPUs a training holds."""
    at: datetime = AT
    """When everything happens."""
    state: State = field(default_factory=State)
    facts: list[e.Fact] = field(default_factory=list[e.Fact])

    def open(self) -> GroupRound:
        """Fill the miners' accounts and announce the tournament."""
        for i in range(self.entrants):
            offer = self._offer(i)
            self.record(e.TransferCredited(transfer_id=f"t-{offer.hotkey}", coldkey=offer.coldkey, rao=10**9))
        self.record(
            e.TournamentCreated(
                tournament_id=self.tournament_id,
                tournament_type=TournamentType.TEXT,
                rules=self.rules,
                draw_commitment=commitment(SEED),
                secret_commitment=commitment(SEED),
                champion=None,
                because="measured",
            )
        )
        return self

    def record(self, fact: e.Fact) -> None:
        """Let `fact` happen, and all that the rules force after it."""
        batch, self.state = forced(self.state, fact, self.at)
        self.facts += batch

    def commands(self) -> list[Command]:
        """What should be running now."""
        for news in news_of_nodes(self.state, self.cluster):
            self.record(news)
        return plan(self.state, self.at).commands

    def turn(self, spare: int = 0) -> None:
        """Plan once and record the next fact of every command, but for the last `spare` ones."""
        commands = self.commands()
        for command in commands[: len(commands) - spare]:
            for fact in self.answer(command):
                self.record(fact)

    def answer(self, command: Command) -> tuple[e.Fact, ...]:
        """The next facts of a command: the intent of a training, else its outcome."""
        match command:
            case AskMiners():
                answers = tuple(self._offer(i) for i in range(self.entrants))
                return (e.RegistrationPassed(tournament_id=self.tournament_id, number=command.number, answers=answers),)
            case RevealDrawSeed():
                return (e.TournamentActivated(tournament_id=self.tournament_id, draw_seed=SEED),)
            case PrepareTask():
                return (self._prepared(command),)
            case Train():
                return (command.intent,) if command.intent else _ended(command)
            case Evaluate():
                return (evaluated(command),)
            case _:
                raise AssertionError(f"a group round has no {command.command_id}")

    def _offer(self, number: int) -> Entrant:
        frozen = hashlib.sha1(f"{self.tournament_id}|{number}".encode()).hexdigest()
        hotkey, coldkey = f"5{frozen}", f"c{frozen}"
        repo = f"https://example.com/{number}.git"
        return Entrant(hotkey=hotkey, coldkey=coldkey, repo=repo, commit=frozen, tree_hash=frozen)

    def _prepared(self, c: PrepareTask) -> e.TaskPrepared:
        return e.TaskPrepared(
            tournament_id=self.tournament_id,
            task_id=c.task_id,
            match_id=c.match_id,
            slot=c.slot,
            task_type=TaskType.INSTRUCT,
            hours=HOURS,
            data=DATA.model_copy(update={"model_params": self.params}),
        )


def cluster(gpus: int) -> Cluster:
    """Nodes of 8 H100 each with at least so many GPUs in all."""
    nodes = -(-gpus // GPUS_PER_NODE)
    return Cluster(tuple(Node(f"node-{i:04d}", {"H100": GPUS_PER_NODE}) for i in range(nodes)))


def _ended(c: Train) -> tuple[e.LeaseEnded, e.AttemptEnded]:
    outcome = Trained(checkpoint=f"checkpoints/{c.spec.attempt_id}", seconds=1.0)
    return lease_ended(c, "its container is gone"), attempt_ended(c, outcome)


def evaluated(c: Evaluate) -> e.CheckpointEvaluated:
    """A metric that belongs to the entrant."""
    digest = hashlib.sha256(c.hotkey.encode()).hexdigest()
    value = 1 + int(digest[:8], 16) / 2**32
    result = Evaluated(value=value, per_row=(value,), distance=0.5, digest=digest, seconds=1.0)
    return e.CheckpointEvaluated(
        tournament_id=c.tournament_id, task_id=c.task_id, hotkey=c.hotkey, number=c.number, result=result
    )
