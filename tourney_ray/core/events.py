"""Facts: what happened, in the order in which it was recorded. The journal holds nothing else.

A fact says what is the case, never what should be done. Decisions are facts too, each with a `because` that a miner
can read; those of tasks, matches and tournaments stand in `decisions`. What people did stands in `acts`, what became of
trainings in `training_events`. All belong to one union.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tourney_ray.core.acts import (
    Act as Act,
    NodeFenced as NodeFenced,
    TournamentCancelled as TournamentCancelled,
    TrainingReopened as TrainingReopened,
    TrainingRetried as TrainingRetried,
)
from tourney_ray.core.decisions import (
    EvaluationRepeated as EvaluationRepeated,
    MatchDecided as MatchDecided,
    Ranked as Ranked,
    Refunded as Refunded,
    RoundCompleted as RoundCompleted,
    Standing as Standing,
    TaskDecided as TaskDecided,
    TaskRepeated as TaskRepeated,
    Title as Title,
    TournamentCompleted as TournamentCompleted,
    Verdict as Verdict,
)
from tourney_ray.core.models import (
    Answer,
    Entrant,
    Hotkey,
    Record,
    RoundType,
    Sha256,
    TaskData,
    TaskType,
    TournamentType,
)
from tourney_ray.core.rules import Rules
from tourney_ray.core.training_events import (
    AttemptEnded as AttemptEnded,
    AttemptRunning as AttemptRunning,
    AttemptStarted as AttemptStarted,
    CheckpointEvaluated as CheckpointEvaluated,
    EvaluationFailed as EvaluationFailed,
    ImageBuilt as ImageBuilt,
    LeaseEnded as LeaseEnded,
    StagingFailed as StagingFailed,
)


class TournamentCreated(Record):
    """A tournament is announced before anyone is asked, with its rules and both seeds' commitments (RULES §3)."""

    kind: Literal["TournamentCreated"] = "TournamentCreated"
    tournament_id: str
    tournament_type: TournamentType
    rules: Rules
    draw_commitment: Sha256
    secret_commitment: Sha256
    champion: Entrant | None
    champion_wins: int = Field(default=0, ge=0)
    """Consecutive completed wins of the champion; 0 for a base contestant."""
    beacon: str = ""
    """Public beacon, and which value of it, that will be mixed into the draws; empty: none."""
    because: str


class TransferCredited(Record):
    """Money arrived for an account; each transfer counts once (RULES §2)."""

    kind: Literal["TransferCredited"] = "TransferCredited"
    transfer_id: str
    coldkey: Hotkey
    rao: int = Field(gt=0)


class RegistrationPassed(Record):
    """All miners of the registry were asked once more."""

    kind: Literal["RegistrationPassed"] = "RegistrationPassed"
    tournament_id: str
    number: int = Field(ge=1)
    answers: tuple[Answer, ...]


class Charged(Record):
    """An entrant's fee left its account."""

    kind: Literal["Charged"] = "Charged"
    tournament_id: str
    hotkey: Hotkey
    coldkey: Hotkey
    rao: int = Field(ge=0)


class EntrantAccepted(Record):
    """A miner is in, with the tree that was vetted."""

    kind: Literal["EntrantAccepted"] = "EntrantAccepted"
    tournament_id: str
    entrant: Entrant
    number: int = Field(ge=1)
    """The pass that accepted it."""
    because: str


class EntrantRefused(Record):
    """A miner is not in, for now; it may answer better in the next pass."""

    kind: Literal["EntrantRefused"] = "EntrantRefused"
    tournament_id: str
    hotkey: Hotkey
    number: int = Field(ge=1)
    because: str


class TournamentActivated(Record):
    """Registration is closed and the draw seed revealed; all draws follow from it."""

    kind: Literal["TournamentActivated"] = "TournamentActivated"
    tournament_id: str
    draw_seed: Sha256
    """The 32 bytes in hex."""
    beacon: str = ""
    """The value of the beacon that was announced; empty without one."""


class MatchDrawn(Record):
    """Who plays whom."""

    match_id: str
    entrants: tuple[Hotkey, ...]


class RoundDrawn(Record):
    """A round's matches."""

    kind: Literal["RoundDrawn"] = "RoundDrawn"
    tournament_id: str
    round_id: str
    number: int = Field(ge=1)
    round_type: RoundType
    matches: tuple[MatchDrawn, ...]
    byes: tuple[Hotkey, ...]
    because: str


class TaskPrepared(Record):
    """A task of a match has its model and its data."""

    kind: Literal["TaskPrepared"] = "TaskPrepared"
    tournament_id: str
    task_id: str
    match_id: str
    slot: int = Field(ge=0)
    task_type: TaskType
    hours: float = Field(gt=0)
    data: TaskData
    historical: str | None = None
    """The past task whose data this one repeats (RULES §4); None: a new task."""
    best_historical: float | None = None
    """Best metric that anybody reached on the past task; shown beside the new results, decides nothing."""


class TaskPreparationFailed(Record):
    """A task could not be made; another one of its kind takes the slot (RULES §4)."""

    kind: Literal["TaskPreparationFailed"] = "TaskPreparationFailed"
    tournament_id: str
    task_id: str
    match_id: str
    slot: int = Field(ge=0)
    reason: str
    model_params: int | None = Field(default=None, gt=0)
    """Size of the model that was chosen and could not be had: its replacement is of about that size (RULES §4)."""


class Assignment(Record):
    """An entrant's place in a task."""

    task_id: str
    hotkey: Hotkey
    expected_repo_name: str


class RoundActivated(Record):
    """All tasks of a round are ready and its entrants assigned."""

    kind: Literal["RoundActivated"] = "RoundActivated"
    tournament_id: str
    round_id: str
    assignments: tuple[Assignment, ...]


class SecretRevealed(Record):
    """The secret seed, so that task choice and splits can be recomputed."""

    kind: Literal["SecretRevealed"] = "SecretRevealed"
    tournament_id: str
    secret_seed: Sha256


class NodeJoined(Record):
    """A node is there, with so many GPUs of each type; said again when that changes."""

    kind: Literal["NodeJoined"] = "NodeJoined"
    node: str
    gpus: dict[str, Annotated[int, Field(ge=1)]]


class NodeLost(Record):
    """A node went away. What is leased on it stays leased: nobody knows whether it still runs there."""

    kind: Literal["NodeLost"] = "NodeLost"
    node: str


Fact = (
    TournamentCreated
    | TournamentCancelled
    | TransferCredited
    | RegistrationPassed
    | Charged
    | Refunded
    | EntrantAccepted
    | EntrantRefused
    | TournamentActivated
    | RoundDrawn
    | TaskPrepared
    | TaskPreparationFailed
    | RoundActivated
    | ImageBuilt
    | StagingFailed
    | AttemptStarted
    | AttemptRunning
    | LeaseEnded
    | AttemptEnded
    | TrainingRetried
    | TrainingReopened
    | CheckpointEvaluated
    | EvaluationFailed
    | EvaluationRepeated
    | TaskRepeated
    | TaskDecided
    | MatchDecided
    | RoundCompleted
    | TournamentCompleted
    | SecretRevealed
    | NodeJoined
    | NodeLost
    | NodeFenced
)

FACT: TypeAdapter[Fact] = TypeAdapter(Annotated[Fact, Field(discriminator="kind")])
