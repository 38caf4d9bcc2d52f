"""What goes wrong, and when: seeded, so that a failing run can be had again, and bounded, so that every run ends."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from tourney_ray.errors import ConfigError

KINDS: dict[str, str] = {
    "crash": "the driver dies before or after an append or an effect",
    "drivers": "a second driver starts beside the first",
    "node": "a machine loses power, or is cut off while its containers go on; most come back",
    "engine": "a machine's container engine starts nothing for a while",
    "evaluator": "the evaluator dies",
    "slow": "staging, collecting and evaluating take many times as long",
    "duplicate": "an outcome arrives twice",
    "late": "an outcome arrives much later, after others that came after it",
    "disk": "the journal's disk is full for a while",
    "clock": "the driver's clock jumps, forward or back",
    "people": "somebody has a training begin anew, or fences a machine that is gone",
}
"""Kinds of faults by name."""

OUTLIVES = 0.5
"""Share of what a dead driver asked of a machine that is done all the same."""

MOST_OF_A_KIND = 12
"""In one run. Far fewer for one training than would end it for the platform's faults."""


class Crash(BaseException):
    """The driver's process ends here and now; nothing of it catches this."""


@dataclass
class Faults:
    """Dice for one run."""

    kinds: frozenset[str]
    dice: random.Random
    crash_at: int | None = None
    """The only moment, counted from 1, at which the driver dies; None: by the dice."""
    happened: dict[str, int] = field(default_factory=dict[str, int])
    moments: int = 0
    """How often the driver could have died: before and after each append and each effect."""

    def strikes(self, kind: str, share: float) -> bool:
        """Whether a fault of that kind happens now, as it does in that share of cases until there were enough."""
        if kind not in self.kinds or self.happened.get(kind, 0) >= MOST_OF_A_KIND or self.dice.random() >= share:
            return False
        self.happened[kind] = self.happened.get(kind, 0) + 1
        return True

    def crash(self, share: float = 0.02) -> None:
        """Raise `Crash` in that share of cases, or at the one moment that was chosen."""
        self.moments += 1
        if self.crash_at == self.moments or (self.crash_at is None and self.strikes("crash", share)):
            raise Crash

    def outlives(self) -> bool:
        """Whether what a dead driver asked of a machine is done all the same."""
        return self.dice.random() < OUTLIVES

    def delays(self, usual_s: float) -> list[float]:
        """After how many seconds an outcome arrives; two when it arrives twice."""
        first = usual_s * self.dice.uniform(0.5, 1.5)
        if self.strikes("late", 0.03):
            first += self.dice.uniform(60, 7200)
        return [first, first + self.dice.uniform(0, 600)] if self.strikes("duplicate", 0.05) else [first]

    def takes(self, usual_s: float) -> float:
        """How many seconds something takes that takes about so many."""
        return usual_s * self.dice.uniform(0.5, 1.5) * (40 if self.strikes("slow", 0.03) else 1)


def parse_faults(words: str) -> frozenset[str]:
    """The kinds that `all`, `none` or a list such as `crash,node` names; `ConfigError` for a kind that there is not."""
    if words == "all":
        return frozenset(KINDS)
    named = () if words == "none" else tuple(word.strip() for word in words.split(","))
    return _known(named)


def _known(named: Iterable[str]) -> frozenset[str]:
    kinds = frozenset(named)
    if strange := kinds - set(KINDS):
        raise ConfigError(f"there is no fault called {', '.join(sorted(strange))}", f"choose from {', '.join(KINDS)}")
    return kinds
