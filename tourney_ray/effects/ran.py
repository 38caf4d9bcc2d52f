"""What is known of a container that is gone, kept on its node until its output is collected."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from tourney_ray.core.models import Failed
from tourney_ray.core.record import Record


class Ran(Record):
    """How a training's container ended."""

    epoch: int
    failed: Failed | None = None
    """Why there is nothing to evaluate; None: what lies in the output folder is collected."""
    seconds: float = Field(ge=0)
    """From its start to its end, by the monotonic clock."""
    stopped_at_deadline: bool = False
    log_tail: str = ""
    exit_code: int
    oom_killed: bool
    """Whether the kernel killed anything in it for want of memory; the main process may have survived that."""
    held_to: dict[str, int] = Field(default_factory=dict[str, int])
    """The limits that it had, by name with their units."""
    machine: dict[str, str] = Field(default_factory=dict[str, str])
    """Node and engine that it ran on."""
    container_id: str
    image_id: str
    gpu_indices: tuple[int, ...]
    started_at: datetime | None
    finished_at: datetime | None
    """By the engine's clock."""
