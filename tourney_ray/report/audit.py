"""Whether a journal is what the rules make of its outcomes: everything that can be recomputed is, and compared.

Given, and taken as they stand, are outcomes and intents: what miners answered, what was prepared, trained and measured.
Recomputed are the chain, the draws, the verdicts, points and weights, the ids, and, once the secret seed is revealed,
the choice of tasks and their time limits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tourney_ray.core import events as e
from tourney_ray.core.chain import GENESIS, Entry
from tourney_ray.core.checker import Checker
from tourney_ray.core.events import Fact
from tourney_ray.core.invariants.waits import unexplained
from tourney_ray.core.models import TournamentStatus
from tourney_ray.core.plan import plan
from tourney_ray.core.quoting import shown
from tourney_ray.core.replay import follow, judged, read_fact, refusal
from tourney_ray.core.rules import Rules
from tourney_ray.core.settle import settle
from tourney_ray.core.state import State, Tournament
from tourney_ray.errors import AuditDifference
from tourney_ray.report.differences import difference, first_difference
from tourney_ray.report.given import check_choices, check_given

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
    checker: Checker = field(default_factory=Checker)
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
        check_given(self.state, entry, fact)
        self.state = follow(self.state, fact, entry)
        for violation in self.checker.see(fact):
            raise refusal(entry, f"invariant {violation.number} is broken: {violation.what}")
        if isinstance(fact, e.SecretRevealed):
            check_choices(self.state, fact.tournament_id, entry)
        if not self.forced:
            self.forced.extend(settle(self.state))

    def _compare(self, entry: Entry, fact: Fact) -> None:
        if not self.forced:
            raise difference(entry, "", "it", "no decision here")
        due = self.forced.popleft()
        if due.kind != fact.kind:
            raise difference(entry, "kind", fact.kind, f"{due.kind} first")
        found = first_difference("", fact.model_dump(mode="json"), due.model_dump(mode="json"))
        if found:
            raise difference(entry, *found)


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
    if not work.forced:
        _check_end(work)
    head = work.last.hash if work.last else GENESIS
    return AuditReport(work.state.seq, work.verdicts, tuple(work.state.tournaments), tuple(notes), head)


def _check_end(work: _Audit) -> None:
    """A settled journal owes nobody anything, and whatever is not finished says what it waits for."""
    undone = [str(violation) for violation in work.checker.end()]
    if work.last:
        idle = unexplained(work.state, plan(work.state, work.last.at))
        undone += [f"invariant 12 is broken: {key} neither runs nor says what it waits for" for key in idle]
    if undone:
        raise AuditDifference(undone[0])


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
