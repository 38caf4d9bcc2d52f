"""The checker: twelve invariants over any journal, used by the simulator, the tests and the audit.

1. A GPU is leased to at most one live epoch.
2. A lease ends only after its container is gone or its node is fenced.
3. There is one immutable verdict per match and entrant.
4. Attempts keep within their limits; the platform's faults are not charged.
5. Verdicts follow from the metrics.
6. All entrants of a task had the same limits, data and GPU type.
7. Charges are the participants', once each, refunded where void.
8. Every entrant has one tree and one image.
9. A round advances only when all its tasks are terminal.
10. Replaying the journal gives the tables (`store.tables_check`).
11. Draws follow from the revealed seeds and their commitments.
12. Every wait has a reason (`invariants.waits`).
"""

from __future__ import annotations

from collections.abc import Iterable

from tourney_ray.core.events import Fact
from tourney_ray.core.invariants.books import Invariant, Violation
from tourney_ray.core.invariants.draws import Draws
from tourney_ray.core.invariants.leases import Leases
from tourney_ray.core.invariants.money import Money
from tourney_ray.core.invariants.trainings import Trainings
from tourney_ray.core.invariants.verdicts import Verdicts


class Checker:
    """Takes a journal's facts one by one, as they are recorded. They have to be ones that `evolve` accepts."""

    def __init__(self) -> None:
        self._seq = 0
        self._invariants: list[Invariant] = [Leases(), Trainings(), Verdicts(), Money(), Draws()]

    def see(self, fact: Fact) -> list[Violation]:
        """What the next fact breaks; empty when all invariants hold."""
        self._seq += 1
        return [Violation(n, self._seq, what) for each in self._invariants for n, what in each.see(fact)]

    def end(self) -> list[Violation]:
        """What a journal that is settled and ends here leaves undone."""
        return [Violation(n, self._seq, what) for each in self._invariants for n, what in each.end()]


def violations(facts: Iterable[Fact]) -> list[Violation]:
    """All that is wrong with a settled journal of these facts, in their order."""
    checker = Checker()
    return [*(violation for fact in facts for violation in checker.see(fact)), *checker.end()]
