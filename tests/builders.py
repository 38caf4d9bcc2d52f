"""Whole tournaments in memory, scripted and deterministic: real plans and rulings, made-up miners and metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tourney_ray.core import events as e, ids
from tourney_ray.core.chain import Entry, chain
from tourney_ray.core.commands import (
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
from tourney_ray.core.evolve import evolve
from tourney_ray.core.leases import Cluster, news_of_nodes
from tourney_ray.core.metrics import METRICS, Direction
from tourney_ray.core.models import Entrant, Evaluated, Failed, Refusal, TaskData, TournamentType, Trained
from tourney_ray.core.nodes import Node
from tourney_ray.core.plan import plan
from tourney_ray.core.preparation import prepared_from_history, task_prepared, task_request
from tourney_ray.core.rules import Rules
from tourney_ray.core.settle import settle
from tourney_ray.core.state import State, Tournament

START = datetime(2026, 1, 1, tzinfo=UTC)
DRAW_SEED = "11" * 32
SECRET_SEED = "22" * 32
"""Of the first tournament on a stage; each has its own."""
CHAMPION = "champ"
CLUSTER = Cluster((Node("n1", {"H100": 8}), Node("n2", {"A100": 2}), Node("n3", {"H100": 8})))


def miners(count: int) -> list[str]:
    """Hotkeys `m00`, `m01` …; without a script a higher number is the better miner."""
    return [f"m{i:02d}" for i in range(count)]


def offer(hotkey: str) -> Entrant:
    """What that miner froze: coldkey `c-{hotkey}`, ids made from its name."""
    frozen = hashlib.sha1(hotkey.encode()).hexdigest()
    repo = f"https://example.com/{hotkey}.git"
    return Entrant(hotkey=hotkey, coldkey=f"c-{hotkey}", repo=repo, commit=frozen, tree_hash=frozen)


def credit(hotkey: str, rao: int = 10**9, number: int = 1) -> e.TransferCredited:
    """The `number`-th transfer to the account of that miner."""
    return e.TransferCredited(transfer_id=f"t-{hotkey}-{number}", coldkey=f"c-{hotkey}", rao=rao)


def data(rows: int = 100, params: int = 10**9) -> TaskData:
    """Data of a task, of a model with so many parameters."""
    return TaskData(
        model_id="org/tiny",
        model_params=params,
        model_path="models/tiny",
        dataset_path="data/train.jsonl",
        dataset_sha256="0" * 64,
        dataset_rows=rows,
        test_path="data/test.jsonl",
        test_sha256="1" * 64,
        test_rows=10,
        sequence_len=128,
    )


def evaluated(value: float, digest: str = "") -> Evaluated:
    """A metric of two rows whose mean it is."""
    rows = (value - 0.25, value + 0.25)
    return Evaluated(value=sum(rows) / 2, per_row=rows, distance=0.5, digest=digest, seconds=2.0)


Place = tuple[int, str]
"""Round number and hotkey."""


@dataclass(frozen=True)
class Script:
    """What does not go by itself."""

    values: Mapping[Place, float | Evaluated] = field(default_factory=dict[Place, "float | Evaluated"])
    """Metric in every task of that round; others get one by their skill."""
    failures: Mapping[Place, Sequence[Failed]] = field(default_factory=dict[Place, Sequence[Failed]])
    """How the first attempts of every training in that round end; the one after them succeeds."""
    evaluation_failures: Mapping[Place, int] = field(default_factory=dict[Place, int])
    """How often the evaluator fails at that entrant's checkpoints first."""
    preparation_failures: Mapping[int, int] = field(default_factory=dict[int, int])
    """How often each slot of that round cannot be prepared first."""
    historical: Mapping[int, str] = field(default_factory=dict[int, str])
    """The past task whose data all tasks of that round repeat."""
    refusals: Mapping[str, str] = field(default_factory=dict[str, str])
    """Reason by hotkey of those that the vetting refuses."""
    unpaid: frozenset[str] = frozenset()
    """Hotkeys whose account is empty."""


@dataclass
class Stage:
    """A state with the facts that led to it; every recorded fact is followed by all that the rules force."""

    state: State = field(default_factory=State)
    facts: list[tuple[e.Fact, datetime]] = field(default_factory=list[tuple[e.Fact, datetime]])
    at: datetime = START

    def record(self, fact: e.Fact) -> None:
        """Let `fact` happen one second after the last one, then settle."""
        self.at += timedelta(seconds=1)
        self._happen(fact)
        while forced := settle(self.state):
            for each in forced:
                self._happen(each)

    def see(self, cluster: Cluster) -> None:
        """Let the cluster be as it is seen, at no moment of its own."""
        for news in news_of_nodes(self.state, cluster):
            self._happen(news)

    def _happen(self, fact: e.Fact) -> None:
        self.state = evolve(self.state, fact, self.at)
        self.facts.append((fact, self.at))


def seeds(number: int) -> tuple[str, str]:
    """Draw seed and secret seed of the `number`-th tournament on a stage."""
    if number == 1:
        return DRAW_SEED, SECRET_SEED
    return f"{number:02x}" + "11" * 31, f"{number:02x}" + "22" * 31


def number_of(state: State, tournament_id: str) -> int:
    """Which tournament on its stage that is, from 1."""
    return list(state.tournaments).index(tournament_id) + 1


def leased(state: State) -> dict[tuple[str, str], int]:
    """GPUs that are held, by (node, GPU type)."""
    held: dict[tuple[str, str], int] = {}
    for lease in state.leases.values():
        key = (lease.node, lease.gpu_type)
        held[key] = held.get(key, 0) + lease.gpus
    return held


@dataclass(frozen=True)
class Played:
    """A tournament that was played."""

    facts: list[tuple[e.Fact, datetime]]
    state: State
    tournament_id: str

    @property
    def tournament(self) -> Tournament:
        """The tournament at its end."""
        return self.state.tournaments[self.tournament_id]


def play(
    entrants: int | Sequence[str] = 11,
    champion: bool = True,
    script: Script | None = None,
    rules: Rules | None = None,
    tournament_type: TournamentType = TournamentType.TEXT,
    stage: Stage | None = None,
) -> Played:
    """A whole tournament, from the transfers to the revealed secret, on a new stage or after what one has seen."""
    hotkeys = miners(entrants) if isinstance(entrants, int) else list(entrants)
    game = Game(stage or Stage(), hotkeys, script or Script(), rules or Rules(), tournament_type)
    game.open(offer(CHAMPION) if champion else None)
    return game.run()


def entries(facts: Sequence[tuple[e.Fact, datetime]]) -> list[Entry]:
    """The journal of those facts."""
    result: list[Entry] = []
    for fact, at in facts:
        result.append(chain(result[-1] if result else None, fact, at))
    return result


@dataclass
class Game:
    """A tournament that is played turn by turn."""

    stage: Stage
    hotkeys: list[str]
    script: Script
    rules: Rules
    tournament_type: TournamentType
    tournament_id: str = ""

    @property
    def tournament(self) -> Tournament:
        return self.stage.state.tournaments[self.tournament_id]

    @property
    def seeds(self) -> tuple[str, str]:
        """Of the tournament: its draw seed and its secret seed."""
        return seeds(number_of(self.stage.state, self.tournament_id))

    def open(self, champion: Entrant | None, champion_wins: int = 0) -> None:
        """Fill the accounts, see the cluster, announce the tournament."""
        for hotkey in self.hotkeys:
            transfer = credit(hotkey, number=len(self.stage.state.tournaments) + 1)
            if hotkey not in self.script.unpaid:
                self.stage.record(transfer)
        self.stage.see(CLUSTER)
        draw_seed, secret_seed = seeds(len(self.stage.state.tournaments) + 1)
        committed = commitment(draw_seed)
        self.tournament_id = ids.generate_tournament_id(self.tournament_type, committed, self.stage.at)
        self.stage.record(
            e.TournamentCreated(
                tournament_id=self.tournament_id,
                tournament_type=self.tournament_type,
                rules=self.rules,
                draw_commitment=committed,
                secret_commitment=commitment(secret_seed),
                champion=champion,
                champion_wins=champion_wins,
                because="scripted",
            )
        )

    def run(self, until: Callable[[Tournament], bool] = lambda t: False) -> Played:
        """Play on until that holds after a turn, or until nothing is left to do."""
        while not until(self.tournament):
            now = plan(self.stage.state, self.stage.at)
            if not now.commands and not now.wake_at:
                break
            if now.commands:
                self.start()
                for command in now.commands:
                    self._do(command)
            else:
                self.stage.at = min(now.wake_at)
        return Played(self.stage.facts, self.stage.state, self.tournament_id)

    def start(self) -> None:
        """Start all trainings that have a place: none of a turn ends before, so that leases overlap."""
        for command in plan(self.stage.state, self.stage.at).commands:
            if isinstance(command, Train) and command.intent:
                self.stage.record(command.intent)

    def _do(self, command: Command) -> None:
        match command:
            case AskMiners():
                self._answer(command)
            case RevealDrawSeed():
                self.stage.record(e.TournamentActivated(tournament_id=self.tournament_id, draw_seed=self.seeds[0]))
            case RevealSecretSeed():
                self.stage.record(e.SecretRevealed(tournament_id=self.tournament_id, secret_seed=self.seeds[1]))
            case PrepareTask():
                self._prepare(command)
            case Train():
                self._train(command)
            case Release():
                self._free(command)
            case Evaluate():
                self._evaluate(command)
            case _:
                raise AssertionError(f"nobody asked for {command.command_id}")

    def _answer(self, command: AskMiners) -> None:
        asked = [h for h in self.hotkeys if h not in command.known]
        answers = tuple(
            Refusal(hotkey=h, reason=self.script.refusals[h]) if h in self.script.refusals else offer(h) for h in asked
        )
        number = command.number
        self.stage.record(e.RegistrationPassed(tournament_id=self.tournament_id, number=number, answers=answers))

    def _prepare(self, c: PrepareTask) -> None:
        t, last = self.tournament, self.tournament.rounds[-1]
        where: dict[str, Any] = {"tournament_id": c.tournament_id, "task_id": c.task_id}
        where |= {"match_id": c.match_id, "slot": c.slot}
        if c.place.preparation - 1 < self.script.preparation_failures.get(last.number, 0):
            self.stage.record(e.TaskPreparationFailed(**where, reason="the data set has no rows"))
            return
        _, secret = self.seeds
        if repeated := prepared_from_history(self.stage.state, c, secret):
            self.stage.record(repeated)
            return
        request = task_request(t, c, secret)
        low, _ = request.model_range_b
        fact = task_prepared(t, c, request.task_type, data(params=int(low * 10**9)), secret)
        past = self.script.historical.get(last.number)
        history: dict[str, Any] = {"historical": past, "best_historical": 1.5} if past else {}
        self.stage.record(fact.model_copy(update=history))

    def _train(self, c: Train) -> None:
        spec = c.spec
        planned = self.script.failures.get((self.tournament.rounds[-1].number, spec.hotkey), ())
        fails = spec.epoch <= len(planned)
        if not fails:
            self.stage.record(e.AttemptRunning(**_attempt(c), image_id=c.spec.image_id))
        self._free(c)
        checkpoint = f"checkpoints/{spec.task_id}/{spec.expected_repo_name}"
        outcome = planned[spec.epoch - 1] if fails else Trained(checkpoint=checkpoint, seconds=1.5, log_tail="done")
        self.stage.record(e.AttemptEnded(**_attempt(c), outcome=outcome))

    def _free(self, c: Train | Release) -> None:
        self.stage.record(e.LeaseEnded(**_attempt(c), because="it is gone"))

    def _evaluate(self, c: Evaluate) -> None:
        key = (self.tournament.rounds[-1].number, c.hotkey)
        where: dict[str, Any] = {
            "tournament_id": c.tournament_id,
            "task_id": c.task_id,
            "hotkey": c.hotkey,
            "number": c.number,
        }
        if c.tries < self.script.evaluation_failures.get(key, 0):
            self.stage.record(e.EvaluationFailed(**where, reason="the evaluator was killed"))
            return
        self.stage.record(e.CheckpointEvaluated(**where, result=self._result(c, key)))

    def _result(self, c: Evaluate, key: Place) -> Evaluated:
        scripted = self.script.values.get(key)
        if isinstance(scripted, Evaluated):
            return scripted
        digest = hashlib.sha256(f"{c.task_id}/{c.hotkey}".encode()).hexdigest()
        if scripted is not None:
            return evaluated(scripted, digest)
        lower = METRICS[c.task_type].direction is Direction.LOWER
        return evaluated(2 - self._skill(c.hotkey) if lower else 2 + self._skill(c.hotkey), digest)

    def _skill(self, hotkey: str) -> float:
        """In steps of 1/16, exact in binary; a good challenger beats the champion, a middling one does not."""
        if hotkey == CHAMPION:
            return 0.25
        return self.hotkeys.index(hotkey) / 16


def _attempt(c: Train | Release) -> dict[str, Any]:
    where = c.spec.model_dump(include={"task_id", "hotkey", "attempt_id"})
    return {"tournament_id": c.tournament_id, **where}
