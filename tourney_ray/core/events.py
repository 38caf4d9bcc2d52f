"""Facts: what happened, in the order in which it was recorded. The journal holds nothing else.

A fact says what is the case, never what should be done. Decisions are facts too, each with a `because` that a miner
can read. `Entry` is a fact in its place in the journal; its hash covers the entry before it: a cut or an edit shows.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, TypeAdapter

from tourney_ray.core.models import (
    Evaluated,
    Failed,
    Hotkey,
    Record,
    RoundType,
    Sha1,
    Sha256,
    TaskData,
    TaskStatus,
    TaskType,
    TournamentType,
    Trained,
)
from tourney_ray.core.rules import Rules


class Entry(Record):
    """A fact in the journal."""

    seq: int = Field(ge=1)
    at: AwareDatetime
    kind: str
    body: str
    """The fact as JSON; the hash covers these very characters."""
    previous: str
    hash: str

    @property
    def fact(self) -> Fact:
        """The fact itself; raises `ValidationError` when the body is none."""
        return FACT.validate_json(self.body)


class OfferVetted(Record):
    """A miner's answer that passed the vetting: what it froze."""

    answer: Literal["offer"] = "offer"
    hotkey: Hotkey
    coldkey: Hotkey
    repo: str
    commit: Sha1
    tree_hash: Sha1


class OfferRefused(Record):
    """A miner without an acceptable answer, and why."""

    answer: Literal["refusal"] = "refusal"
    hotkey: Hotkey
    reason: str


Answer = Annotated[OfferVetted | OfferRefused, Field(discriminator="answer")]


class TournamentCreated(Record):
    """A tournament is announced before anyone is asked, with its rules and both seeds' commitments (RULES §3)."""

    kind: Literal["TournamentCreated"] = "TournamentCreated"
    tournament_id: str
    tournament_type: TournamentType
    rules: Rules
    draw_commitment: Sha256
    secret_commitment: Sha256
    champion: OfferVetted | None
    champion_wins: int = Field(default=0, ge=0)
    """Consecutive completed wins of the champion; 0 for a base contestant."""
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
    entrant: OfferVetted
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


class TaskPreparationFailed(Record):
    """A task could not be made; another one of its kind takes the slot (RULES §4)."""

    kind: Literal["TaskPreparationFailed"] = "TaskPreparationFailed"
    tournament_id: str
    task_id: str
    match_id: str
    slot: int = Field(ge=0)
    reason: str


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


class AttemptStarted(Record):
    """The intent to train, recorded before anything runs; from here on the GPUs are leased."""

    kind: Literal["AttemptStarted"] = "AttemptStarted"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    attempt_id: str
    epoch: int = Field(ge=1)
    """Number of the lease; counts every start, whoever is to blame for the end of the one before."""
    node: str
    gpu_type: str
    gpus: int = Field(ge=1)


class AttemptRunning(Record):
    """The trainer's code runs."""

    kind: Literal["AttemptRunning"] = "AttemptRunning"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    attempt_id: str


class AttemptEnded(Record):
    """An attempt's code is gone, its GPUs are free, and this is what came of it."""

    kind: Literal["AttemptEnded"] = "AttemptEnded"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    attempt_id: str
    outcome: Annotated[Trained | Failed, Field(union_mode="left_to_right")]


class CheckpointEvaluated(Record):
    """The metric of a training's checkpoint."""

    kind: Literal["CheckpointEvaluated"] = "CheckpointEvaluated"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    number: int = Field(ge=1)
    """Which evaluation of the task, 1 to `max_evaluations`."""
    result: Evaluated


class EvaluationFailed(Record):
    """The evaluator failed; the platform's fault."""

    kind: Literal["EvaluationFailed"] = "EvaluationFailed"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    number: int = Field(ge=1)
    reason: str


class EvaluationRepeated(Record):
    """Nobody's metric was valid: the whole task is evaluated again (RULES §7)."""

    kind: Literal["EvaluationRepeated"] = "EvaluationRepeated"
    tournament_id: str
    task_id: str
    number: int = Field(ge=2)
    because: str


class Ranked(Record):
    """One entrant's place in a task."""

    hotkey: Hotkey
    value: float | None
    """The metric; None where there is no checkpoint."""
    valid: bool
    score: int
    """3, 0 or −1 (RULES §7)."""
    place: int | None
    """From 1; None for the invalid."""
    because: str


class TaskDecided(Record):
    """A task is terminal, with the order of its entrants, best first, the invalid last."""

    kind: Literal["TaskDecided"] = "TaskDecided"
    tournament_id: str
    task_id: str
    status: TaskStatus
    ranking: tuple[Ranked, ...]
    winner: Hotkey | None
    because: str


class Verdict(Record):
    """Whether an entrant advances from a match, and why."""

    hotkey: Hotkey
    advances: bool
    value: float | None
    because: str


class MatchDecided(Record):
    """A match's verdicts; those who advance are listed best first."""

    kind: Literal["MatchDecided"] = "MatchDecided"
    tournament_id: str
    match_id: str
    advancing: tuple[Hotkey, ...]
    verdicts: tuple[Verdict, ...]
    because: str


class RoundCompleted(Record):
    """A round is over; `advancing` lists who plays on, best placed first."""

    kind: Literal["RoundCompleted"] = "RoundCompleted"
    tournament_id: str
    round_id: str
    advancing: tuple[Hotkey, ...]
    because: str


Title = Literal["won", "defended", "uncontested", "vacant"]
"""How a tournament ended: the challenger won, the champion defended, there was no champion to beat, nobody survived."""


class Standing(Record):
    """An entrant's place in the tournament, with what it earned."""

    hotkey: Hotkey
    place: int = Field(ge=1)
    points: float = Field(ge=0)
    weight: float = Field(ge=0, le=1)


class TournamentCompleted(Record):
    """The tournament has a winner, its standings are final."""

    kind: Literal["TournamentCompleted"] = "TournamentCompleted"
    tournament_id: str
    winner: Hotkey | None
    title: Title
    performance_difference: float
    standings: tuple[Standing, ...]
    """Those who earned a place, first to last; their weights sum to 1."""
    because: str


class SecretRevealed(Record):
    """The secret seed, so that task choice and splits can be recomputed."""

    kind: Literal["SecretRevealed"] = "SecretRevealed"
    tournament_id: str
    secret_seed: Sha256


Fact = (
    TournamentCreated
    | TransferCredited
    | RegistrationPassed
    | Charged
    | EntrantAccepted
    | EntrantRefused
    | TournamentActivated
    | RoundDrawn
    | TaskPrepared
    | TaskPreparationFailed
    | RoundActivated
    | AttemptStarted
    | AttemptRunning
    | AttemptEnded
    | CheckpointEvaluated
    | EvaluationFailed
    | EvaluationRepeated
    | TaskDecided
    | MatchDecided
    | RoundCompleted
    | TournamentCompleted
    | SecretRevealed
)

FACT: TypeAdapter[Fact] = TypeAdapter(Annotated[Fact, Field(discriminator="kind")])

GENESIS = "0" * 64
"""What the first entry has as its `previous`."""


def chain(previous: Entry | None, fact: Fact, at: datetime) -> Entry:
    """The entry that records `fact` after `previous`."""
    seq = previous.seq + 1 if previous else 1
    before = previous.hash if previous else GENESIS
    body = fact.model_dump_json()
    return Entry(
        seq=seq,
        at=at.astimezone(UTC),
        kind=fact.kind,
        body=body,
        previous=before,
        hash=entry_hash(seq, at, fact.kind, body, before),
    )


def entry_hash(seq: int, at: datetime, kind: str, body: str, previous: str) -> str:
    """SHA-256, in hex, over the five fields, a newline between them; the time in ISO 8601, UTC, with microseconds."""
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(f"{seq}\n{moment}\n{kind}\n{body}\n{previous}".encode()).hexdigest()
