"""What nothing may remove from a node or from the store of artifacts, because somebody still reads it, or will.

Read from the state alone. Whatever is not named here can be had again, or nobody asks for it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from tourney_ray.core.models import AttemptStatus, Entrant, TournamentStatus, TournamentType, Trained
from tourney_ray.core.state import Attempt, State, Tournament

DIGEST_PREFIX = "sha256:"
"""Before the digest wherever a fact names a kept object."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is needed; digests are bare hex digits."""

    checkpoints: frozenset[str]
    """Folders of outputs. Of live tournaments all: they are evaluated, evaluated again, and reopened. Of ended ones
    those that won the title that is held now, in the last round of its latest tournament: what is handed on. Later
    tournaments train anew, and an audit recomputes from the metrics: neither reads a checkpoint."""
    past_checkpoints: frozenset[str]
    """All others that the journal names: they may go, each as a whole."""
    records: frozenset[str]
    """Provenance records of all attempts, of whatever tournament: small, and the only ones who know."""
    live_records: frozenset[str]
    """Those of live tournaments: the logs that they name are needed as well."""
    images: frozenset[tuple[str, str]]
    """Tree hash and kind (`text` or `image`) of everyone who may train again: those who are still in a live tournament,
    whose attempts hold GPUs, and who hold a title, since they defend it in the next tournament."""
    trees: frozenset[str]
    """Tree hashes of these, and of all who answered a registration that is not over."""
    tasks: frozenset[str]
    """Whose data trainings read on a node: tasks of live tournaments that are not decided, and tasks of attempts that
    hold GPUs. A task that is repeated from the history is a new one, made of the operator's own files."""
    collecting_since: datetime | None
    """When the earliest attempt began whose outcome is not on record: what it leaves may lie there already. None: there
    is no such attempt."""


def holdings(state: State) -> Holdings:
    """What the tournaments of that state need, and will need by what is recorded so far."""
    live, ended = state.live(), [t for t in state.tournaments.values() if not _is_live(t)]
    needed = {*_checkpoints(live), *_title_checkpoints(state)}
    entrants = {(e.tree_hash, kind.value) for e, kind in (*_contestants(live), *_leasing(state), *_champions(state))}
    leased = {lease.task_id for lease in state.leases.values()}
    return Holdings(
        checkpoints=frozenset(needed),
        past_checkpoints=frozenset({*_checkpoints(ended)} - needed),
        records=frozenset(_records(state.tournaments.values())),
        live_records=frozenset(_records(live)),
        images=frozenset(entrants),
        trees=frozenset({tree for tree, _ in entrants} | {e.tree_hash for e in _answering(live)}),
        tasks=frozenset(leased | {task.task_id for t in live for task in t.tasks.values() if not task.decided}),
        collecting_since=min((a.started_at for a in _attempts(live) if _is_open(a)), default=None),
    )


def _is_live(t: Tournament) -> bool:
    return t.status in (TournamentStatus.PENDING, TournamentStatus.ACTIVE)


def _is_open(attempt: Attempt) -> bool:
    return attempt.status is AttemptStatus.TRAINING


def _attempts(tournaments: Iterable[Tournament]) -> Iterator[Attempt]:
    for t in tournaments:
        for task in t.tasks.values():
            for training in task.trainings.values():
                yield from training.attempts


def _checkpoints(tournaments: Iterable[Tournament]) -> Iterator[str]:
    for attempt in _attempts(tournaments):
        if isinstance(attempt.outcome, Trained):
            yield attempt.outcome.checkpoint.removeprefix(DIGEST_PREFIX)


def _records(tournaments: Iterable[Tournament]) -> Iterator[str]:
    for attempt in _attempts(tournaments):
        if attempt.outcome and attempt.outcome.provenance:
            yield attempt.outcome.provenance.removeprefix(DIGEST_PREFIX)


def _title_checkpoints(state: State) -> Iterator[str]:
    """What each champion trained in the last round of the tournament that it won latest."""
    for reign in state.reigns.values():
        won = state.tournaments.get(reign.tournament_id)
        matches = won.round.matches.values() if won and won.round else ()
        for task in (won.tasks[task_id] for match in matches for task_id in match.tasks.values() if won):
            training = task.trainings.get(reign.champion.hotkey)
            if training and training.attempt and isinstance(training.attempt.outcome, Trained):
                yield training.attempt.outcome.checkpoint.removeprefix(DIGEST_PREFIX)


def _contestants(live: Iterable[Tournament]) -> Iterator[tuple[Entrant, TournamentType]]:
    for t in live:
        yield from ((t.contestant(hotkey), t.tournament_type) for hotkey in t.still_in())


def _leasing(state: State) -> Iterator[tuple[Entrant, TournamentType]]:
    for lease in state.leases.values():
        t = state.tournaments[lease.tournament_id]
        yield t.contestant(lease.hotkey), t.tournament_type


def _champions(state: State) -> Iterator[tuple[Entrant, TournamentType]]:
    return ((reign.champion, kind) for kind, reign in state.reigns.items())


def _answering(live: Iterable[Tournament]) -> Iterator[Entrant]:
    for t in live:
        if t.status is TournamentStatus.PENDING:
            yield from (answer for answer in t.answers.values() if isinstance(answer, Entrant))
