"""What is the case now: the journal, folded. Made by `evolve` only; nothing here decides.

All records are frozen and share what did not change with the state before them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tourney_ray.core.events import (
    Charged,
    ImageBuilt,
    MatchDecided,
    TaskDecided,
    TournamentCancelled,
    TournamentCompleted,
)
from tourney_ray.core.ids import TaskPlace
from tourney_ray.core.models import (
    Answer,
    AttemptStatus,
    Blame,
    Entrant,
    Evaluated,
    Failed,
    GpuRequirement,
    RoundStatus,
    RoundType,
    TaskData,
    TaskType,
    TournamentStatus,
    TournamentType,
    Trained,
    TrainingSpec,
    TrainingStatus,
)
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.core.rules import Rules

RETRIED = "retried"
"""Kind of the end of an attempt that a person had begun anew: it counts against nobody, the platform neither."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of one training, on leased GPUs; of one whose image cannot be built, without."""

    attempt_id: str
    epoch: int
    node: str
    spec: TrainingSpec
    started_at: datetime
    status: AttemptStatus = AttemptStatus.TRAINING
    running_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Trained | Failed | None = None


@dataclass(frozen=True, slots=True)
class Training:
    """One entrant's work on one task, over all its attempts and evaluations."""

    tournament_id: str
    task_id: str
    hotkey: str
    expected_repo_name: str
    key: str
    """`{task}.{hotkey}`: its name among what waits."""
    status: TrainingStatus = TrainingStatus.PENDING
    attempts: tuple[Attempt, ...] = ()
    not_before: datetime | None = None
    """No new attempt or evaluation earlier than this."""
    evaluated: Evaluated | None = None
    """Metric of the task's current evaluation."""
    counted_from: int = 0
    """Index of the first attempt that counts: what was before a repetition or a person's reopening does not."""
    refusals: int = 0
    """Checkpoints that the evaluation refused and the entrant trains again for, of the attempts that count."""
    evaluation_failures: int = 0
    """Of the evaluator, over all attempts."""
    evaluator_deaths: int = 0
    """How often its process died at the latest checkpoint."""
    taken_back: int = 0
    """How many of its metrics a person had measured again, over all attempts."""
    trouble: str = ""
    """The latest fault, while it is waited out; of a failed training, the one that ended it."""
    failed_by: Blame | None = None
    """Whose failures ended the training; None unless it has failed."""

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def miner_failures(self) -> int:
        """How many attempts the miner has used up: failed ones and refused checkpoints."""
        return self.refusals + sum(blame is Blame.MINER for blame in self._blames())

    @property
    def platform_failures(self) -> int:
        """How many attempts that count failed by anybody else's fault."""
        return sum(blame is not Blame.MINER for blame in self._blames())

    def _blames(self) -> list[Blame]:
        outcomes = [a.outcome for a in self.attempts[self.counted_from :]]
        return [o.blame for o in outcomes if isinstance(o, Failed) and o.kind != RETRIED]

    @property
    def terminal(self) -> bool:
        """Whether nothing more will be trained."""
        return self.status in (TrainingStatus.SUCCESS, TrainingStatus.FAILURE)

    @property
    def done(self) -> bool:
        """Whether nothing more will be trained or evaluated."""
        status = self.status
        return status is TrainingStatus.FAILURE or (status is TrainingStatus.SUCCESS and self.evaluated is not None)


@dataclass(frozen=True, slots=True)
class Task:
    """A model, data and a time limit, the same for all entrants of a match."""

    task_id: str
    match_id: str
    slot: int
    preparation: int
    task_type: TaskType
    hours: float
    data: TaskData
    prepared_at: datetime
    gpu_requirement: GpuRequirement
    trainings: dict[str, Training] = field(default_factory=dict[str, Training])
    """By hotkey; empty until the round is active."""
    evaluation: int = 1
    """Which evaluation is under way, 1 to `max_evaluations`."""
    run: int = 1
    """Which run of the whole task is under way: 2 after a repetition."""
    historical: str | None = None
    """The past task whose data it repeats."""
    best_historical: float | None = None
    decided: TaskDecided | None = None
    done: bool = field(init=False, compare=False)
    """Whether all its trainings are over, each with its metric or failed."""

    def __post_init__(self) -> None:
        """Find that out once: it is asked after every fact. The last to start is mostly the last to be done."""
        trainings = reversed(self.trainings.values())
        object.__setattr__(self, "done", bool(self.trainings) and all(training.done for training in trainings))

    @property
    def place(self) -> TaskPlace:
        """Where it stands; its seeds are derived from that."""
        return TaskPlace(self.match_id, self.slot, self.preparation)


@dataclass(frozen=True, slots=True)
class Match:
    """Entrants compared on the same tasks."""

    match_id: str
    entrants: tuple[str, ...]
    tasks: dict[int, str] = field(default_factory=dict[int, str])
    """Task ids by slot; complete when the round becomes active."""
    preparations: dict[int, int] = field(default_factory=dict[int, int])
    """Failed preparations by slot."""
    trouble: dict[int, str] = field(default_factory=dict[int, str])
    """Why the latest preparation failed, by slot."""
    replaces: dict[int, int] = field(default_factory=dict[int, int])
    """Parameters of the model that could not be had, by slot: what takes its place is of about that size."""
    not_before: dict[int, datetime] = field(default_factory=dict[int, datetime])
    """No new preparation earlier than this, by slot."""
    decided: MatchDecided | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """All matches that are played at the same time."""

    round_id: str
    number: int
    round_type: RoundType
    matches: dict[str, Match]
    byes: tuple[str, ...]
    drawn_at: datetime
    status: RoundStatus = RoundStatus.PENDING
    advancing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tournament:
    """One tournament from its announcement to its standings."""

    tournament_id: str
    tournament_type: TournamentType
    rules: Rules
    draw_commitment: str
    secret_commitment: str
    created_at: datetime
    champion: Entrant | None
    champion_wins: int
    status: TournamentStatus = TournamentStatus.PENDING
    entrants: dict[str, Entrant] = field(default_factory=dict[str, Entrant])
    """By hotkey, without the champion; in registration order once active."""
    ranks: dict[str, int] = field(default_factory=dict[str, int])
    """Place of each entrant in the registration order, from 0, once active."""
    accepted_in: dict[str, int] = field(default_factory=dict[str, int])
    refusals: dict[str, str] = field(default_factory=dict[str, str])
    """Latest reason by hotkey, of those who are not in."""
    charges: dict[str, Charged] = field(default_factory=dict[str, Charged])
    """By hotkey."""
    refunded: frozenset[str] = frozenset()
    """Hotkeys whose fee went back."""
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    """Of the last pass, by hotkey."""
    passes: int = 0
    unanswered: tuple[str, ...] = ()
    """Hotkeys of the last pass that are neither accepted nor refused yet, in the order in which it lists them."""
    passed_at: datetime | None = None
    announced_beacon: str = ""
    seed: str = ""
    """S of the draws; empty before activation."""
    draw_seed: str = ""
    beacon: str = ""
    secret_seed: str = ""
    rounds: tuple[Round, ...] = ()
    images: dict[str, ImageBuilt] = field(default_factory=dict[str, ImageBuilt])
    """By hotkey, the champion's too; the latest of each."""
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    completed: TournamentCompleted | None = None
    cancelled: TournamentCancelled | None = None
    activated_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def round(self) -> Round | None:
        """The latest round."""
        return self.rounds[-1] if self.rounds else None

    def contestant(self, hotkey: str) -> Entrant:
        """The entrant or the champion of that hotkey; raises `KeyError` for anybody else."""
        if self.champion and hotkey == self.champion.hotkey:
            return self.champion
        return self.entrants[hotkey]

    def still_in(self) -> set[str]:
        """The champion and the entrants that are not eliminated."""
        playing = set(self.entrants)
        if self.round is not None:
            drawn = {h for match in self.round.matches.values() for h in match.entrants} | set(self.round.byes)
            playing = set(self.round.advancing) if self.round.status is RoundStatus.COMPLETED else drawn
        return playing | ({self.champion.hotkey} if self.champion else set())

    def registration_rank(self, hotkey: str) -> int:
        """Place in the registration order: the champion −1, entrants from 0; raises `KeyError` for strangers."""
        if self.champion and hotkey == self.champion.hotkey:
            return -1
        return self.ranks[hotkey]


@dataclass(frozen=True, slots=True)
class Reign:
    """Who holds a title, since when, and how clearly it was won."""

    champion: Entrant
    wins: int
    """Consecutive completed wins, won or defended."""
    performance_difference: float
    """Of the first win of this reign."""
    tournament_id: str
    """The latest tournament won."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the journal says."""

    seq: int = 0
    tournaments: dict[str, Tournament] = field(default_factory=dict[str, Tournament])
    reigns: dict[TournamentType, Reign] = field(default_factory=dict[TournamentType, Reign])
    balances: dict[str, int] = field(default_factory=dict[str, int])
    """RAO by coldkey; never negative."""
    transfers: frozenset[str] = frozenset()
    """Ids of the transfers already credited."""
    nodes: dict[str, Node] = field(default_factory=dict[str, Node])
    """By id, the lost ones too while anything is leased on them."""
    leases: dict[str, Lease] = field(default_factory=dict[str, Lease])
    """Open ones, by attempt."""
    held: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """GPUs that are leased, by (node, GPU type)."""

    def active_participants(self) -> set[str]:
        """Who still plays in an active tournament, the champions that wait for their challengers included."""
        return {h for t in self.live() if t.status is TournamentStatus.ACTIVE for h in t.still_in()}

    def live(self) -> list[Tournament]:
        """Tournaments that are neither completed nor cancelled, in order of creation."""
        return [t for t in self.tournaments.values() if t.status in (TournamentStatus.PENDING, TournamentStatus.ACTIVE)]
