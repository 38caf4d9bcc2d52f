"""Work that should be running. A command's id follows from what it is for: planning it twice is planning it once."""

from __future__ import annotations

from dataclasses import dataclass, field

from tourney_ray.core.events import AttemptStarted, ImageBuilt
from tourney_ray.core.ids import TaskPlace
from tourney_ray.core.models import Entrant, RoundType, TaskData, TaskType, TournamentType, TrainingSpec
from tourney_ray.core.rules import Rules


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce the next tournament of a type, with commitments to two fresh seeds."""

    tournament_type: TournamentType
    number: int
    """How many of its type there will have been, from 1."""
    champion: Entrant | None
    """Who holds the title; None before the first tournament."""
    champion_wins: int
    rules: Rules

    @property
    def command_id(self) -> str:
        """`announce/{type}/{number}`."""
        return f"announce/{self.tournament_type.value}/{self.number}"


@dataclass(frozen=True, slots=True)
class AskMiners:
    """Ask the registry's miners for their repositories, all but those that are in."""

    tournament_id: str
    tournament_type: TournamentType
    number: int
    known: frozenset[str]

    @property
    def command_id(self) -> str:
        """`ask/{tournament}/{pass}`."""
        return f"ask/{self.tournament_id}/{self.number}"


@dataclass(frozen=True, slots=True)
class RevealDrawSeed:
    """Close registration and reveal the draw seed."""

    tournament_id: str

    @property
    def command_id(self) -> str:
        """`reveal-draw/{tournament}`."""
        return f"reveal-draw/{self.tournament_id}"


@dataclass(frozen=True, slots=True)
class RevealSecretSeed:
    """Reveal the secret seed of a completed tournament."""

    tournament_id: str

    @property
    def command_id(self) -> str:
        """`reveal-secret/{tournament}`."""
        return f"reveal-secret/{self.tournament_id}"


@dataclass(frozen=True, slots=True)
class PrepareTask:
    """Make the task of one slot of a match."""

    tournament_id: str
    tournament_type: TournamentType
    round_type: RoundType
    place: TaskPlace
    task_id: str
    replaces_params: int | None = None
    """Parameters of the model that could not be had, when this is its replacement."""

    @property
    def command_id(self) -> str:
        """`prepare/{task}`."""
        return f"prepare/{self.task_id}"

    @property
    def match_id(self) -> str:
        """The match that the task is for."""
        return self.place.match_id

    @property
    def slot(self) -> int:
        """Its slot in the match."""
        return self.place.slot


@dataclass(frozen=True, slots=True)
class Stage:
    """Put image and data of the attempt that comes next on a node. No GPU is held for it."""

    tournament_id: str
    spec: TrainingSpec
    node: str
    image: ImageBuilt | None
    """The entrant's image, to be brought there; None: it is to be built there."""

    command_id: str = field(init=False, compare=False)
    """`stage/{attempt}/{node}`."""

    def __post_init__(self) -> None:
        """Name it once, as a training."""
        object.__setattr__(self, "command_id", f"stage/{self.spec.attempt_id}/{self.node}")


@dataclass(frozen=True, slots=True)
class Train:
    """Run, or take over, one attempt."""

    tournament_id: str
    spec: TrainingSpec
    node: str
    intent: AttemptStarted | None
    """The fact to record before anything runs; None when the journal holds it already."""

    command_id: str = field(init=False, compare=False)
    """`train/{attempt}`."""

    def __post_init__(self) -> None:
        """Name it once: thousands may run, and each is asked for its name at every step."""
        object.__setattr__(self, "command_id", f"train/{self.spec.attempt_id}")


@dataclass(frozen=True, slots=True)
class Release:
    """Make sure that nothing runs any more of an attempt that is over, so that its GPUs are free."""

    tournament_id: str
    spec: TrainingSpec
    node: str

    @property
    def command_id(self) -> str:
        """`release/{attempt}`."""
        return f"release/{self.spec.attempt_id}"


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Compute the metric of a training's checkpoint."""

    tournament_id: str
    task_id: str
    task_type: TaskType
    hotkey: str
    attempt_id: str
    checkpoint: str
    data: TaskData
    number: int
    tries: int
    """Tries so far, failed or taken back by a person; part of the id, so that each is a command of its own."""
    deaths: int = 0
    """How often the evaluator died at this checkpoint."""
    record: str = ""
    """The attempt's record in the operator's store of artifacts, by which its checkpoint can be brought elsewhere."""
    trained_on: str = ""
    """Node of the attempt, where the checkpoint lies."""
    gpu_type: str = ""
    """On which the task is trained, and evaluated where evaluations hold GPUs."""
    node: str | None = None
    """Where it holds a GPU; None where evaluations hold none."""

    @property
    def command_id(self) -> str:
        """`evaluate/{attempt}/{evaluation}/{tries}`."""
        return f"evaluate/{self.attempt_id}/{self.number}/{self.tries}"


Command = Announce | AskMiners | RevealDrawSeed | RevealSecretSeed | PrepareTask | Stage | Train | Release | Evaluate
