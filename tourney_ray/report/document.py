"""A tournament as one document of plain values: what `--json` prints and notebooks read. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import Failed, RoundType
from tourney_ray.core.rulings import submission
from tourney_ray.core.scoring import Submission
from tourney_ray.core.state import Attempt, Match, Round, State, Task, Tournament
from tourney_ray.core.weights import TypeResult, emission_weights

Document = dict[str, Any]
NOT_OF_AN_IMAGE = {"kind", "tournament_id", "hotkey"}
"""Of the fact that it was built: what stands around it."""


def tournament_document(t: Tournament, state: State) -> Document:
    """The whole tournament: rounds with matches, metric values and verdicts; attempts; weights; emission.

    `weights` are the tournament's own shares by hotkey, summing to 1; `emission` is what they come to over both types,
    the burnt rest included, summing to 1 too.
    """
    done = t.completed
    return {
        "tournament_id": t.tournament_id,
        "type": t.tournament_type.value,
        "status": t.status.value,
        "champion": done.winner if done else None,
        "title": done.title if done else None,
        "because": done.because if done else _cancelled(t),
        "performance_difference": done.performance_difference if done else None,
        "entrants": [entrant.model_dump(exclude={"answer"}) for entrant in t.entrants.values()],
        "refused": t.refusals,
        "rounds": [_round(t, r) for r in t.rounds],
        "images": {h: image.model_dump(mode="json", exclude=NOT_OF_AN_IMAGE) for h, image in t.images.items()},
        "attempts": list(_attempts(t)),
        "points": {s.hotkey: s.points for s in done.standings} if done else {},
        "weights": {s.hotkey: s.weight for s in done.standings} if done else {},
        "emission": emission(state, t) if done else {},
        "seeds": {"draw_commitment": t.draw_commitment, "secret_commitment": t.secret_commitment}
        | {"draw": t.draw_seed, "secret": t.secret_seed, "final": t.seed},
    }


def _cancelled(t: Tournament) -> str:
    return f"cancelled by {t.cancelled.by}: {t.cancelled.because}" if t.cancelled else ""


def emission(state: State, latest: Tournament) -> dict[str, float]:
    """Shares of the emission by hotkey after the latest completed tournament of each type, by `latest`'s rules."""
    last = {t.tournament_type: t for t in state.tournaments.values() if t.completed}
    results: list[TypeResult] = []
    for kind, t in last.items():
        reign = state.reigns.get(kind)
        weights = {s.hotkey: s.weight for s in t.completed.standings} if t.completed else {}
        difference, wins = (reign.performance_difference, reign.wins) if reign else (0.0, 0)
        results.append(TypeResult(kind, reign.champion.hotkey if reign else None, weights, difference, wins))
    return emission_weights(results, state.active_participants(), None, latest.rules)


def _round(t: Tournament, r: Round) -> Document:
    return {
        "round_id": r.round_id,
        "number": r.number,
        "type": r.round_type.value,
        "status": r.status.value,
        "byes": list(r.byes),
        "matches": [_match(t, r, m) for m in r.matches.values()],
        "advancing": list(r.advancing),
    }


def _match(t: Tournament, r: Round, m: Match) -> Document:
    tasks = [t.tasks[m.tasks[slot]] for slot in sorted(m.tasks)]
    verdicts = m.decided.verdicts if m.decided else ()
    return {
        "match_id": m.match_id,
        "entrants": [{"hotkey": h, "values": {task.task_id: _value(t, task, h) for task in tasks}} for h in m.entrants],
        "champion": m.entrants[0] if r.round_type is RoundType.BOSS else None,
        "tasks": [_task(task) for task in tasks],
        "verdicts": [verdict.model_dump() | {"value": _finite(verdict.value)} for verdict in verdicts],
        "because": m.decided.because if m.decided else "",
    }


def _task(task: Task) -> Document:
    decided = task.decided
    return {
        "task_id": task.task_id,
        "type": task.task_type.value,
        "metric": METRICS[task.task_type].name,
        "direction": METRICS[task.task_type].direction.value,
        "model": task.data.model_id,
        "hours": task.hours,
        "gpus": task.gpu_requirement.value,
        "model_path": task.data.model_path,
        "test_path": task.data.test_path,
        "dataset_type": task.data.dataset_type.model_dump(),
        "sequence_len": task.data.sequence_len,
        "winner": decided.winner if decided else None,
        "because": decided.because if decided else "",
        "ranking": [r.model_dump() | {"value": _finite(r.value)} for r in decided.ranking] if decided else [],
    }


def _value(t: Tournament, task: Task, hotkey: str) -> float | None:
    return _finite(_submission(t, task, hotkey).value) if hotkey in task.trainings else None


def _finite(value: float | None) -> float | None:
    """The value, None where it is no finite number: JSON knows no such thing, and `because` says what it was."""
    return value if value is not None and math.isfinite(value) else None


def _submission(t: Tournament, task: Task, hotkey: str) -> Submission:
    return submission(t, task.trainings[hotkey])


def _attempts(t: Tournament) -> Iterator[Document]:
    for task in t.tasks.values():
        for training in task.trainings.values():
            for attempt in training.attempts:
                yield {"task_id": task.task_id, "hotkey": training.hotkey} | _attempt(task, attempt)


def _attempt(task: Task, attempt: Attempt) -> Document:
    outcome = attempt.outcome
    failed = outcome if isinstance(outcome, Failed) else None
    return {
        "attempt_id": attempt.attempt_id,
        "epoch": attempt.epoch,
        "status": attempt.status.value,
        "blame": failed.blame.value if failed else None,
        "kind": failed.kind if failed else None,
        "reason": failed.reason if failed else "",
        "seconds": outcome.seconds if outcome else None,
        "checkpoint": None if outcome is None or isinstance(outcome, Failed) else outcome.checkpoint,
        "node": attempt.node,
        "gpus": f"{task.gpu_requirement.gpus}x{task.gpu_requirement.gpu_type}",
        "started_at": attempt.started_at.isoformat(),
        "ended_at": attempt.ended_at.isoformat() if attempt.ended_at else None,
    }
