"""The words of the tournament: enumerations and small frozen records that facts, ports and reports share.

Everything here is immutable and refuses unknown fields. Nothing here decides anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field

from tourney_ray.core.dataset_types import DatasetType, InstructDatasetType
from tourney_ray.core.record import Record

Hotkey = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
"""A miner's identity: an ss58 string, or any name of letters, digits, `_`, `.` and `-` up to 64 characters."""

Sha1 = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
"""A full git commit or tree id, lower case."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


ImageId = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
"""What the container engine names an image: the digest of its configuration."""


class TournamentType(StrEnum):
    """What is trained: language models or image LoRAs."""

    TEXT = "text"
    IMAGE = "image"


class TournamentStatus(StrEnum):
    """Life of a tournament (RULES §1)."""

    PENDING = "pending"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class RoundType(StrEnum):
    """Shape of a round (RULES §3)."""

    GROUP = "group"
    KNOCKOUT = "knockout"
    BOSS = "boss"


class RoundStatus(StrEnum):
    """Life of a round: drawn, with all its tasks ready, decided."""

    PENDING = "pending"
    ACTIVE = "active"
    COMPLETED = "completed"


class TaskType(StrEnum):
    """What a training is for; the text values are the contract's `--task-type` words."""

    INSTRUCT = "InstructTextTask"
    CHAT = "ChatTask"
    DPO = "DpoTask"
    GRPO = "GrpoTask"
    IMAGE = "ImageTask"


class TaskOrigin(StrEnum):
    """Who wants a task: a paying customer, a tournament, or whoever compares champions."""

    ORGANIC = "organic"
    TOURNAMENT = "tournament"
    BENCHMARK = "benchmark"


class TaskStatus(StrEnum):
    """Life of a task: its entrants train, their checkpoints are evaluated, a ranking stands or nothing could."""

    TRAINING = "training"
    EVALUATING = "evaluating"
    SUCCESS = "success"
    FAILURE = "failure"


class TrainingStatus(StrEnum):
    """Life of one training, that is of (task, entrant) over all its attempts (RULES §6)."""

    PENDING = "pending"
    TRAINING = "training"
    SUCCESS = "success"
    FAILURE = "failure"


class AttemptStatus(StrEnum):
    """Life of one attempt."""

    TRAINING = "training"
    SUCCESS = "success"
    FAILURE = "failure"


class Blame(StrEnum):
    """Whose fault a failure is. Only the miner's costs an attempt."""

    MINER = "miner"
    PLATFORM = "platform"
    EVALUATOR = "evaluator"


class GpuRequirement(StrEnum):
    """The GPUs that one training holds (RULES §5). H100s are counted, an A100 training holds one."""

    H100_1X = "1xH100", "H100", 1
    H100_2X = "2xH100", "H100", 2
    H100_4X = "4xH100", "H100", 4
    H100_8X = "8xH100", "H100", 8
    A100 = "A100", "A100", 1

    gpu_type: str
    """The Ray custom resource: `H100` or `A100`."""
    gpus: int
    """How many of them, 1 to 8."""

    def __new__(cls, value: str, gpu_type: str, gpus: int) -> Self:
        """A member that is its value, with what that says."""
        member = str.__new__(cls, value)
        member._value_, member.gpu_type, member.gpus = value, gpu_type, gpus
        return member

    @property
    def narrowest(self) -> GpuRequirement:
        """One GPU of that type."""
        return GpuRequirement.A100 if self is GpuRequirement.A100 else GpuRequirement.H100_1X


class Miner(Record):
    """A miner of the registry: who it is, which account pays, and where it answers."""

    hotkey: Hotkey
    coldkey: Hotkey
    ip: str
    port: int = Field(ge=1, le=65535)


class Entrant(Record):
    """A miner with the repository that it froze: what was vetted is what is built and trained."""

    answer: Literal["offer"] = "offer"
    hotkey: Hotkey
    coldkey: Hotkey
    repo: str
    commit: Sha1
    tree_hash: Sha1


class Refusal(Record):
    """A miner without an acceptable repository, and why."""

    answer: Literal["refusal"] = "refusal"
    hotkey: Hotkey
    reason: str


Answer = Annotated[Entrant | Refusal, Field(discriminator="answer")]
"""What became of asking one miner."""


class TaskData(Record):
    """What a task is trained and evaluated on. Paths are relative to the operator's store of task data."""

    model_id: str
    """The contract's `--model`, such as `org/name`."""
    model_params: int = Field(gt=0)
    """Parameters of the model; never unknown (RULES §5)."""
    model_path: str
    dataset_path: str
    """Training rows; the only data that a trainer ever sees."""
    dataset_sha256: Sha256
    dataset_rows: int = Field(gt=0)
    test_path: str
    test_sha256: Sha256
    test_rows: int = Field(gt=0)
    dataset_type: DatasetType = InstructDatasetType()
    sequence_len: int = Field(gt=0)
    """Longest row that is evaluated, tokens."""


class Terms(Record):
    """What every entrant of a task gets alike (RULES §6); each attempt's first fact repeats them as evidence."""

    hours: float = Field(gt=0)
    """Time limit, from the start of the entrant's code."""
    dataset_sha256: Sha256
    gpu_type: str
    gpus: int = Field(ge=1)
    mem_limit: str
    """Memory of the container, such as `24g`."""
    nano_cpus: int = Field(gt=0)
    """Processor time of the container, 10⁻⁹ CPUs."""


class TrainingSpec(Record):
    """All that a trainer needs for one attempt; the same limits, data and GPU type for every entrant of a task."""

    attempt_id: str
    tournament_id: str
    task_id: str
    task_type: TaskType
    hotkey: Hotkey
    repo: str
    commit: Sha1
    tree_hash: Sha1
    expected_repo_name: str
    data: TaskData
    hours_to_complete: float = Field(gt=0)
    gpu_requirement: GpuRequirement
    mem_limit: str
    nano_cpus: int = Field(gt=0)
    epoch: int = Field(ge=1)
    """Number of this lease of the training; a watcher with an older one is ignored."""
    image_id: str = ""
    """Of the image that was built from the tree, `sha256:…`; empty without containers, or while none is built."""


class Trained(Record):
    """A training that left an output folder to evaluate."""

    checkpoint: str
    """Where the collected output lies."""
    seconds: float = Field(ge=0)
    stopped_at_deadline: bool = False
    log_tail: str = ""
    provenance: str = ""
    """Digest of the record of where this comes from, in the operator's store of artifacts; empty where none is kept."""


class Failed(Record):
    """A training that left nothing to evaluate, whose fault it is, and why."""

    blame: Blame
    kind: str
    reason: str
    seconds: float = Field(default=0.0, ge=0)
    log_tail: str = ""
    provenance: str = ""
    """As of a training that left something."""


TrainingOutcome = Trained | Failed


class Evaluated(Record):
    """The metric of one checkpoint, with what it takes to trust it."""

    value: float
    """Mean of `per_row`; may be NaN or infinite, which the ranking refuses."""
    per_row: tuple[float, ...] = ()
    """Shape (rows,): what the value is the mean of, in the order of the test rows."""
    fine_tuned: bool = True
    """Whether the weights differ from the base model's (RULES §7)."""
    distance: float = 0.0
    """Relative distance of the weights from the base model's, ≥ 0."""
    digest: str = ""
    """SHA-256 over the bf16 tensors; equal digests are the same submission."""
    refused: str = ""
    """Why the checkpoint was not evaluated at all; empty when it was."""
    environment: dict[str, str] = Field(default_factory=dict)
    seconds: float = Field(default=0.0, ge=0)
