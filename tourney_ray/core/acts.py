"""What people do beyond the rules, as facts: each with a name and a reason (RULES §6)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tourney_ray.core.models import Hotkey, Record


class NodeFenced(Record):
    """A person vouches that nothing runs on a lost node any more: its leases end."""

    kind: Literal["NodeFenced"] = "NodeFenced"
    node: str
    by: str = Field(min_length=1)
    """Who says so."""
    because: str = Field(min_length=1)


class TournamentCancelled(Record):
    """A person ended a tournament before its time; every fee goes back (RULES §1, §2)."""

    kind: Literal["TournamentCancelled"] = "TournamentCancelled"
    tournament_id: str
    by: str = Field(min_length=1)
    because: str = Field(min_length=1)


class TrainingRetried(Record):
    """A person had a training that runs or waits begin anew at once, at nobody's cost."""

    kind: Literal["TrainingRetried"] = "TrainingRetried"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    by: str = Field(min_length=1)
    because: str = Field(min_length=1)


class TrainingReopened(Record):
    """A person gave a training that was over another chance, before its task was decided."""

    kind: Literal["TrainingReopened"] = "TrainingReopened"
    tournament_id: str
    task_id: str
    hotkey: Hotkey
    by: str = Field(min_length=1)
    because: str = Field(min_length=1)


Act = TournamentCancelled | TrainingRetried | TrainingReopened | NodeFenced
"""What people do, each with a name and a reason."""
