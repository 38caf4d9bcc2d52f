"""Whether a journal is what the rules make of its outcomes: everything that can be recomputed is, and compared.

Given, and taken as they stand, are outcomes and intents: what miners answered, what was prepared, trained and measured.
Recomputed are the chain, the draws, the verdicts, points and weights, the ids, and, once the secret seed is revealed,
the choice of tasks and their time limits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from tourney_ray.core import events as e
from tourney_ray.core import ids
from tourney_ray.core.chain import GENESIS, Entry
from tourney_ray.core.events import Fact
from tourney_ray.core.models import RoundType, TaskType, TournamentStatus
from tourney_ray.core.quoting import shown
from tourney_ray.core.replay import follow, judged, read_fact, refusal
from tourney_ray.core.rules import Rules
from tourney_ray.core.settle import settle
from tourney_ray.core.state import Round, State, Task, Tournament
from tourney_ray.core.tasks import choose_task, model_range_b, slots, training_hours
from tourney_ray.core.trainings import terms_of
from tourney_ray.errors import AuditDifference

DECISIONS = (
    e.Charged,
    e.Refunded,
    e.EntrantAccepted,
    e.EntrantRefused,
    e.RoundDrawn,
    e.RoundActivated,
    e.EvaluationRepeated,
    e.TaskRepeated,
    e.TaskDecided,
    e.MatchDecided,
    e.RoundCompleted,
    e.TournamentCompleted,
)
"""Facts that `settle` gives: none of them may stand where the rules do not force it."""

MEAN_TOLERANCE = 1e-9
FLOAT_TOLERANCE = 1e-12
"""Relative. Weights come from powers, whose last bit may differ between two machines' mathematics."""

SHORTEST, LONGEST = 60, 120
"""Characters of a value that a message shows."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit that found no difference has looked at."""

    facts: int
    verdicts: int
    """Decided tasks, and verdicts on entrants in matches."""
    tournaments: tuple[str, ...]
    notes: tuple[str, ...]
    """What could not be recomputed yet, and why."""
    head: str
    """Hash of the last fact. Two journals with the same head are the same; a shorter journal has another one."""

    @property
    def summary(self) -> str:
        """The result in one line."""
        return f"{self.facts} facts, {self.verdicts} verdicts recomputed, all equal"


@dataclass
class _Audit:
    state: State = field(default_factory=State)
    last: Entry | None = None
    verdicts: int = 0
    forced: deque[Fact] = field(default_factory=deque[Fact])

    def take(self, entry: Entry) -> None:
        fact = read_fact(self.last, entry)
        with judged(entry):
            self._judge(entry, fact)
        self.last = entry
        self.verdicts += _verdicts(fact)

    def _judge(self, entry: Entry, fact: Fact) -> None:
        if self.forced or isinstance(fact, DECISIONS):
            self._compare(entry, fact)
        _check_given(self.state, entry, fact)
        self.state = follow(self.state, fact, entry)
        if isinstance(fact, e.SecretRevealed):
            _check_tasks(self.state.tournaments[fact.tournament_id], entry)
        if not self.forced:
            self.forced.extend(settle(self.state))

    def _compare(self, entry: Entry, fact: Fact) -> None:
        if not self.forced:
            raise _difference(entry, "", "it", "no decision here")
        due = self.forced.popleft()
        if due.kind != fact.kind:
            raise _difference(entry, "kind", fact.kind, f"{due.kind} first")
        found = _first_difference("", fact.model_dump(mode="json"), due.model_dump(mode="json"))
        if found:
            raise _difference(entry, *found)


def audit(entries: Iterable[Entry], *, growing: bool = False) -> AuditReport:
    """What was recomputed; raises `AuditDifference` at the first fact that is not as the rules give it.

    Of a journal that is still `growing`, decisions that the rules force after its last fact may be missing.
    """
    work = _Audit()
    for entry in entries:
        work.take(entry)
    notes = [note for t in work.state.tournaments.values() for note in _notes(t)]
    if work.forced:
        missing = f"the journal ends here, the rules give {work.forced[0].kind}"
        if not growing:
            raise AuditDifference(f"fact {work.state.seq + 1} is missing: {missing}")
        notes.append(f"{missing} next")
    head = work.last.hash if work.last else GENESIS
    return AuditReport(work.state.seq, work.verdicts, tuple(work.state.tournaments), tuple(notes), head)


# --- what is given, as far as something else determines it


def _check_given(state: State, entry: Entry, fact: Fact) -> None:
    match fact:
        case e.TaskPrepared() | e.TaskPreparationFailed():
            _check_task_id(state, entry, fact)
        case e.AttemptStarted():
            _check_attempt(state, entry, fact)
        case e.CheckpointEvaluated():
            _check_mean(entry, fact)
        case _:
            pass


def _check_task_id(state: State, entry: Entry, fact: e.TaskPrepared | e.TaskPreparationFailed) -> None:
    t = state.tournaments.get(fact.tournament_id)
    drawn = t.round if t else None
    match = drawn.matches.get(fact.match_id) if drawn else None
    if t is None or drawn is None or match is None:
        return  # cannot follow, as the replay will say
    count = slots(t.tournament_type, drawn.round_type, t.rules)
    if fact.slot >= count:
        raise _difference(entry, "slot", fact.slot, f"0 to {count - 1}")
    if isinstance(fact, e.TaskPrepared):
        _check_size(t, drawn.round_type, entry, fact)
    due = ids.task_id(ids.TaskPlace(fact.match_id, fact.slot, match.preparations.get(fact.slot, 0) + 1))
    if fact.task_id != due:
        raise _difference(entry, "task_id", fact.task_id, due)


def _check_size(t: Tournament, round_type: RoundType, entry: Entry, fact: e.TaskPrepared) -> None:
    ranges = sorted({model_range_b(round_type, t.rules, u) for u in (0.0, 1.0)})  # both draws: the seed is secret yet
    size_b = fact.data.model_params / 1e9
    if fact.task_type is not TaskType.IMAGE and not any(low <= size_b <= high for low, high in ranges):
        due = " or ".join(f"{low:g} to {high:g}" for low, high in ranges)
        raise _difference(entry, "data.model_params", fact.data.model_params, f"{due} × 10⁹")


def _check_attempt(state: State, entry: Entry, fact: e.AttemptStarted) -> None:
    due = ids.attempt_id(fact.task_id, fact.hotkey, fact.epoch)
    if fact.attempt_id != due:
        raise _difference(entry, "attempt_id", fact.attempt_id, due)
    t = state.tournaments.get(fact.tournament_id)
    task = t.tasks.get(fact.task_id) if t else None
    if t is None or task is None:
        return  # cannot follow, as the replay will say
    found = _first_difference("terms", fact.terms.model_dump(), terms_of(task, t.rules).model_dump())
    if found:
        raise _difference(entry, *found)


def _check_mean(entry: Entry, fact: e.CheckpointEvaluated) -> None:
    rows, value = fact.result.per_row, fact.result.value
    if not rows:
        return
    mean = math.fsum(rows) / len(rows) if all(map(math.isfinite, rows)) else math.nan
    if not _close(value, mean, MEAN_TOLERANCE):
        raise _difference(entry, "result.value", value, f"{mean!r}, the mean of per_row")


def _check_tasks(t: Tournament, entry: Entry) -> None:
    """Types and hours of all tasks of a tournament whose secret seed is revealed."""
    for drawn in t.rounds:
        for match in drawn.matches.values():
            for task_id in match.tasks.values():
                _check_task(t, drawn, t.tasks[task_id], entry)


def _check_task(t: Tournament, drawn: Round, task: Task, entry: Entry) -> None:
    kind, seed, where = t.tournament_type, t.secret_seed, f"task {task.task_id}"
    due = choose_task(seed, kind, drawn.round_type, task.place, t.rules)
    if task.task_type is not due.task_type:
        raise _difference(entry, f"{where}.task_type", task.task_type.value, due.task_type.value)
    hours = training_hours(seed, kind, drawn.round_type, task.place, task.data.dataset_rows, t.rules)
    if not _close(task.hours, hours, FLOAT_TOLERANCE):
        raise _difference(entry, f"{where}.hours", task.hours, hours)


def _verdicts(fact: Fact) -> int:
    if isinstance(fact, e.MatchDecided):
        return len(fact.verdicts)
    return int(isinstance(fact, e.TaskDecided))


def _notes(t: Tournament) -> Iterator[str]:
    who = shown(t.tournament_id)
    changed = [name for name in Rules.model_fields if getattr(t.rules, name) != getattr(Rules(), name)]
    if changed:
        yield f"{who} was played by rules of its own, which differ from `spec` in {', '.join(changed)}"
    if not t.secret_seed:
        why = "not completed" if t.status is not TournamentStatus.COMPLETED else "completed"
        yield f"{who} is {why}, its secret seed not revealed: the choice of its tasks was not recomputed"


# --- naming a difference


def _first_difference(path: str, said: Any, due: Any) -> tuple[str, Any, Any] | None:
    """Path and both values where two JSON values differ first; None when they are equal."""
    if isinstance(said, dict) and isinstance(due, dict):
        one, other = cast(dict[str, Any], said), cast(dict[str, Any], due)
        pairs = [(f"{path}.{key}", one.get(key), other.get(key)) for key in dict.fromkeys([*other, *one])]
    elif isinstance(said, list) and isinstance(due, list):
        items, others = cast(list[Any], said), cast(list[Any], due)
        if len(items) != len(others):
            return path.lstrip("."), items, others
        pairs = [(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(items, others, strict=True))]
    elif isinstance(said, float) and isinstance(due, float):
        return None if _close(said, due, FLOAT_TOLERANCE) else (path.lstrip("."), said, due)
    else:
        return None if said == due else (path.lstrip("."), said, due)
    return next((found for pair in pairs if (found := _first_difference(*pair))), None)


def _close(one: float, other: float, tolerance: float) -> bool:
    """Equal within the tolerance, absolute below 1; no number equals no number."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)


def _difference(entry: Entry, path: str, said: Any, due: Any) -> AuditDifference:
    where = f"{path} " if path else ""
    return refusal(entry, f"the journal says {where}{_short(said)}, the rules give {_short(due)}")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:SHORTEST]}…{text[-SHORTEST + 1 :]}"
