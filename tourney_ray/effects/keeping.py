"""What is kept of a training whose processes are gone: its output, its logs, and the record of where they come from.

Guarantee: the outcome names what lies in the store by then. Whatever the trainer left, the fault is its miner's; only
our own disk makes it ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tourney_ray.core.models import Blame, Failed, Trained, TrainingOutcome
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.collect import Collected, OutputCaps, collect, collect_logs
from tourney_ray.effects.manifest import PREFIX
from tourney_ray.effects.provenance import Fault, Left, Provenance, keep
from tourney_ray.errors import CheckpointInvalid


@dataclass(frozen=True)
class Remains:
    """Where a trainer left things on this machine. The second paths are below the first and may be links and lies."""

    checkpoints: Path
    output: str
    log_root: Path
    logs: str


def keep_remains(
    store: ArtifactStore, remains: Remains, record: Provenance, log_tail: str, caps: OutputCaps | None = None
) -> TrainingOutcome:
    """The outcome of a training that ended well or at its deadline, by what it left; raises `StorageUnavailable`."""
    course = record.course
    try:
        output = collect(remains.checkpoints, remains.output, store, caps)
    except CheckpointInvalid as refused:
        failed = Failed(blame=Blame.MINER, kind="output_refused", reason=refused.message, seconds=course.seconds)
        return keep_failure(store, remains, record, failed.model_copy(update={"log_tail": log_tail}))
    if not output.digest:
        when = "by its deadline" if course.stopped_at_deadline else "and ended as if all were well"
        reason = f"trainer wrote nothing to {remains.output} {when}"
        failed = Failed(blame=Blame.MINER, kind="no_checkpoint", reason=reason, seconds=course.seconds)
        return keep_failure(store, remains, record, failed.model_copy(update={"log_tail": log_tail}))
    return Trained(
        checkpoint=f"{PREFIX}{output.digest}",
        seconds=course.seconds,
        stopped_at_deadline=course.stopped_at_deadline,
        log_tail=log_tail,
        provenance=_keep_record(store, remains, record, output),
    )


def keep_failure(store: ArtifactStore, remains: Remains, record: Provenance, failed: Failed) -> Failed:
    """That failure, with its logs and its record kept; raises `StorageUnavailable`."""
    fault = Fault(blame=failed.blame, kind=failed.kind, reason=failed.reason)
    known = record.model_copy(update={"fault": fault})
    return failed.model_copy(update={"provenance": _keep_record(store, remains, known, Collected())})


def _keep_record(store: ArtifactStore, remains: Remains, record: Provenance, output: Collected) -> str:
    logs, left_out = collect_logs(remains.log_root, remains.logs, store)
    left = Left(
        output=output.digest,
        output_files=output.files,
        output_bytes=output.bytes,
        logs=logs.digest,
        logs_left_out=left_out,
    )
    return f"{PREFIX}{keep(store, record.model_copy(update={'left': left}))}"
