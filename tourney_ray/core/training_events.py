"""Facts about trainings: images, attempts, the GPUs they lease, and what their checkpoints measure (RULES §6, §7)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tourney_ray.core.models import Evaluated, Failed, Hotkey, ImageId, Record, Sha1, Sha256, Terms, Trained


class ImageBuilt(Record):
    """The image of an entrant, or of the champion: built from the vetted tree, once, before any GPU is held.

    The first one stands for all its trainings. Another one replaces it where it was lost on every node.
    """

    kind: Literal["ImageBuilt"] = "ImageBuilt"
    tournament_id: str
    hotkey: Hotkey
    tree_hash: Sha1
    image_id: ImageId
    node: str
    """Where it lies; other nodes get it from there."""
    dockerfile_sha256: Sha256
    base_images: tuple[str, ...] = ()
    """Ids of the images that its dockerfile starts FROM, in its order."""
    seconds: float = Field(ge=0)
    because: str
    """How it came to be: built from the tree, found, or built once more since it was lost."""


class StagingFailed(Record):
    """The image cannot be built, by the miner's own fault: one of its attempts, which never held a GPU (RULES §6)."""

    kind: Literal["StagingFailed"] = "StagingFailed"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    attempt_id: str
    epoch: int = Field(ge=1)
    """As of an attempt that starts."""
    node: str
    tree_hash: Sha1
    terms: Terms
    failed: Failed


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
    tree_hash: Sha1
    """The vetted tree; the same in every attempt of an entrant."""
    terms: Terms


class AttemptRunning(Record):
    """The trainer's code runs."""

    kind: Literal["AttemptRunning"] = "AttemptRunning"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    attempt_id: str
    gpu_indices: tuple[int, ...] = ()
    """Which GPUs of its node it sees; empty where GPUs are only counted."""
    image_id: str = ""
    """Of the container's image; empty without containers."""


class LeaseEnded(Record):
    """Nothing of an attempt runs any more: its container is gone, so its GPUs are free."""

    kind: Literal["LeaseEnded"] = "LeaseEnded"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    attempt_id: str
    witness: Literal["watcher", "fence"] = "watcher"
    """Who knows: somebody on the node that looked, or the person who fenced it."""
    because: str


class AttemptEnded(Record):
    """What came of an attempt. Its GPUs stay leased until `LeaseEnded` says that they are free."""

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
    """The evaluator failed; the platform's fault, unless it died too often at one checkpoint (RULES §6)."""

    kind: Literal["EvaluationFailed"] = "EvaluationFailed"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    number: int = Field(ge=1)
    reason: str
    died: bool = False
    """Whether its process died while it read the checkpoint."""
