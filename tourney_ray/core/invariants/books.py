"""What all invariants share: how a broken one is told, and what each of them can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from tourney_ray.core.events import Fact


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, from which fact on, and how that shows."""

    number: int
    """Of the invariant, 1 to 12: see `checker`."""
    seq: int
    """The fact that broke it."""
    what: str

    def __str__(self) -> str:
        """`fact 12 breaks invariant 7: …`."""
        return f"fact {self.seq} breaks invariant {self.number}: {self.what}"


class Invariant(Protocol):
    """One or more invariants with the books that they need."""

    def see(self, fact: Fact) -> Iterator[tuple[int, str]]:
        """Take the next fact into the books; number and description of every invariant that it breaks."""
        ...

    def end(self) -> Iterator[tuple[int, str]]:
        """What would be wrong if the journal, settled, ended here."""
        ...


class OpenEnded:
    """An invariant that no end of a journal breaks."""

    def end(self) -> Iterator[tuple[int, str]]:
        """Nothing."""
        return iter(())
