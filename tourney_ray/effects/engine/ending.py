"""Why a container ended, and whose fault that is (RULES §6). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from tourney_ray.core.models import Blame, Failed
from tourney_ray.core.quoting import shown
from tourney_ray.errors import EngineDown, TourneyError, TrainingCrashed

LAST_WORDS = 300
"""Most characters of a trainer's last line in a reason."""

UNSTARTABLE = re.compile(
    r"executable file not found|exec format error|no such file or directory|permission denied|not a directory"
    r"|unable to find user|unable to find group|no matching entries in passwd|is a directory|no command specified"
    r"|uids and gids must be in range|mkdir [^:]*: read-only file system|cannot be mounted because it is not of type"
    r"|outside of rootfs|too many levels of symbolic links|file name too long|argument list too long",
    re.IGNORECASE,
)
"""What the engine says of an image whose program, user or folders are not what it claims."""

NO_GPUS = re.compile(r"could not select device driver|nvidia-container|unresolvable CDI|unknown runtime", re.IGNORECASE)
"""What it says of itself where GPUs cannot be handed out."""


class Stopped(StrEnum):
    """Why we stopped a container."""

    DEADLINE = "deadline"
    OVERRUN = "overrun"
    """Its deadline had passed long ago when somebody found it."""
    LAYER = "layer"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Ending:
    """All that is known of a container's end."""

    exit_code: int
    oom_killed: bool
    stopped: Stopped | None = None
    outsider: bool = False
    """Whether somebody else than us sent it a signal through the engine."""
    outage: bool = False
    """Whether it ended while the engine was away."""
    mem_bytes: int = 0
    """Its limit."""
    layer_bytes: int = 0
    log_tail: str = ""
    late_s: float = 0.0


def failure(end: Ending) -> Failed | None:
    """Why nothing of the training can be evaluated, with its blame; None when its output counts.

    At the deadline the output counts as it stands, and so it does when the main process ended well.
    """
    match end.stopped:
        case Stopped.LAYER:
            return _miners("layer_full", f"it wrote more than {_gib(end.layer_bytes)} outside of its output folder")
        case Stopped.OUTPUT:
            return _miners("output_full", "it wrote more than its output folder may hold")
        case Stopped.OVERRUN:
            minutes = f"it went on for {end.late_s / 60:.0f} minutes after its deadline while nobody watched it"
            return _ours("overrun", f"{minutes}, which is unfair to the others")
        case Stopped.DEADLINE:
            return None
        case None:
            return _by_itself(end) if end.exit_code else None


def not_started(words: str) -> TourneyError:
    """What it means that the engine could not start a container."""
    said = shown(words, LAST_WORDS)
    if NO_GPUS.search(words):
        return EngineDown(
            f"the engine cannot hand out GPUs: {said}",
            "install the NVIDIA container toolkit on this node",
        )
    if UNSTARTABLE.search(words):
        return TrainingCrashed(f"its image cannot be started: {said}")
    return EngineDown(f"the container could not be started: {said}", "see the engine's log on this node")


def _by_itself(end: Ending) -> Failed:
    last = shown((end.log_tail.strip().splitlines() or ["it said nothing"])[-1], LAST_WORDS)
    if end.oom_killed:
        return _miners("out_of_memory", f"trainer needed more than its {_gib(end.mem_bytes)} of memory: {last}")
    if end.outsider:
        return _ours("stopped_by_hand", "somebody on the node stopped its container")
    if end.outage:
        return _ours("engine_down", f"its container ended with {end.exit_code} while the engine was away")
    return _miners("crashed", f"trainer exited with {end.exit_code}: {last}")


def _miners(kind: str, reason: str) -> Failed:
    return Failed(blame=Blame.MINER, kind=kind, reason=reason)


def _ours(kind: str, reason: str) -> Failed:
    return Failed(blame=Blame.PLATFORM, kind=kind, reason=reason)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
