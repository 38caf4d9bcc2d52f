"""Names of everything, made from what is already known: no clock and no dice (RULES §1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from tourney_ray.core.models import TournamentType


def generate_tournament_id(tournament_type: TournamentType, draw_commitment: str, created_at: datetime) -> str:
    """`tourn_{16 hex}_{YYYYMMDD}`, the date in UTC; the hex digits follow from the type and the seed's commitment."""
    digest = hashlib.sha256(f"{tournament_type.value}|{draw_commitment}".encode()).hexdigest()
    return f"tourn_{digest[:16]}_{created_at.astimezone(UTC):%Y%m%d}"


def round_id(tournament_id: str, number: int) -> str:
    """`{tid}_round_{nnn}`; rounds count from 1."""
    return f"{tournament_id}_round_{number:03d}"


def group_id(round_id: str, number: int) -> str:
    """`{round}_group_{nnn}`; groups count from 1."""
    return f"{round_id}_group_{number:03d}"


def pair_id(round_id: str, number: int) -> str:
    """`{round}_pair_{nnn}`; pairs count from 1."""
    return f"{round_id}_pair_{number:03d}"


def publication_name(tournament_type: TournamentType, tournament_id: str, position: int) -> str:
    """`god-{type}-{tid}-position-{1|2}`, - for each _ of the id: where a tree is published (RULES §10)."""
    return f"god-{tournament_type.value}-{tournament_id.replace('_', '-')}-position-{position}"


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """Where a task stands: the match, the slot in it (from 0), and which try at preparing one for it (from 1)."""

    match_id: str
    slot: int
    preparation: int

    @property
    def match(self) -> str:
        """The match within its tournament, `round_002_pair_001`: the same in every tournament."""
        return self.match_id[max(0, self.match_id.find("round_")) :]

    def __str__(self) -> str:
        """`round_002_pair_001/{slot}/{preparation}`: what seeds of the task are derived from."""
        return f"{self.match}/{self.slot}/{self.preparation}"


def task_id(place: TaskPlace) -> str:
    """A UUID-shaped id of the task at that place."""
    h = hashlib.sha256(f"{place.match_id}|{place.slot}|{place.preparation}".encode()).hexdigest()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:32]}"


def attempt_id(task_id: str, hotkey: str, epoch: int) -> str:
    """`{task}.{hotkey}.{n}`, n the number of the lease: one id for one intent, however often it is planned."""
    return f"{task_id}.{hotkey}.{epoch}"


def expected_repo_names(tournament_id: str, task_id: str, hotkeys: Sequence[str]) -> dict[str, str]:
    """The output name of each entrant of a task: `tournament-{tid}-{task_id}-{hotkey[:8]}`.

    An entrant whose first 8 characters another one shares uses as many more as tell it apart.
    """
    shared = _shared_lengths(sorted(set(hotkeys)))
    return {h: f"tournament-{tournament_id}-{task_id}-{h[: max(8, shared[h] + 1)]}" for h in hotkeys}


def _shared_lengths(ordered: Sequence[str]) -> dict[str, int]:
    """How many leading characters each shares with any other; in sorted order a neighbour shares the most."""
    beside = [_shared(one, other) for one, other in pairwise(ordered)]
    near = zip([0, *beside], [*beside, 0], strict=True)
    return {h: max(both) for h, both in zip(ordered, near, strict=False)}  # of nobody, the ends have no one between


def _shared(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
