"""What is on record of one attempt: by the driver's tables, or, where none runs, by the journal on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tourney_ray.cli import whereabouts
from tourney_ray.errors import NotFound

if TYPE_CHECKING:
    from tourney_ray.cli.whereabouts import Whereabouts
    from tourney_ray.core.state import State

TRAINING = "training"
"""Status of an attempt that goes on."""

SELECT = """
SELECT coalesce(provenance, '') AS provenance, coalesce(checkpoint, '') AS checkpoint, status,
       coalesce(log_tail, '') AS log_tail, coalesce(reason, '') AS reason
FROM attempts WHERE attempt_id = '{}'
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the journal says of an attempt."""

    provenance: str
    checkpoint: str
    status: str
    log_tail: str
    """The end of what it said, once it is over."""
    reason: str
    """Why it failed, where it has."""


def recorded_attempt(where: Whereabouts, attempt_id: str) -> Recorded:
    """The attempt of that id; raises `NotFound` where there is none."""
    if where.driver is None:
        found = _replayed(whereabouts.recorded(where.settings), attempt_id)
    else:
        rows = where.driver.query(SELECT.format(attempt_id.replace("'", "''"))).to_pylist()
        found = Recorded(**rows[0]) if rows else None
    if found is None:
        raise NotFound(f"there is no attempt {attempt_id}", "`tourney query` has them: SELECT attempt_id FROM attempts")
    return found


def _replayed(state: State, attempt_id: str) -> Recorded | None:
    from tourney_ray.core.models import Failed, Trained

    trainings = (tr for t in state.tournaments.values() for task in t.tasks.values() for tr in task.trainings.values())
    attempt = next((a for training in trainings for a in training.attempts if a.attempt_id == attempt_id), None)
    if attempt is None:
        return None
    outcome = attempt.outcome
    return Recorded(
        provenance=outcome.provenance if outcome else "",
        checkpoint=outcome.checkpoint if isinstance(outcome, Trained) else "",
        status=attempt.status.value,
        log_tail=outcome.log_tail if outcome else "",
        reason=outcome.reason if isinstance(outcome, Failed) else "",
    )
