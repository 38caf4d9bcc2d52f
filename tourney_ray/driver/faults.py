"""What Ray's errors mean to a tournament: one table, all of it the platform's fault."""

from __future__ import annotations

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    TaskUnschedulableError,
    WorkerCrashedError,
)

from tourney_ray.errors import TourneyError

FAULTS: tuple[tuple[type[RayError], str, str], ...] = (
    (NodeDiedError, "node_lost", "its node was lost"),
    (LocalRayletDiedError, "node_lost", "its node was lost"),
    (OutOfMemoryError, "node_out_of_memory", "its node ran out of memory"),
    (TaskCancelledError, "cancelled", "it was cancelled"),
    (TaskUnschedulableError, "node_lost", "its node is not there any more"),
    (WorkerCrashedError, "worker_lost", "its worker process died"),
    (ActorDiedError, "actor_lost", "its actor died"),
    (ActorUnavailableError, "actor_unavailable", "its actor does not answer"),
    (RayTaskError, "defect", "the task raised an error"),
    (RayError, "ray_error", "Ray could not run it"),
)
"""What Ray's errors mean, first match; all of them are the platform's fault."""


def fault(error: RayError | TourneyError) -> tuple[str, str]:
    """Kind and reason of a fault of the platform, by the table of Ray's errors."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, TourneyError):
        return cause.kind, cause.message
    kind, words = next((kind, words) for known, kind, words in FAULTS if isinstance(error, known))
    lines = str(error).strip().splitlines() if kind == "defect" else []
    return kind, f"{words}: {lines[-1][:200]}" if lines else words
