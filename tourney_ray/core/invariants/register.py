"""Who entered a tournament, the seed that follows from that, and the order of registration: what two invariants need.

The hashes are written out here once more; see `draw` and `evolve` for the ones that decide.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from tourney_ray.core import events as e
from tourney_ray.core.models import Entrant


@dataclass
class Register:
    """One tournament's entrants, as they were frozen."""

    created: e.TournamentCreated
    entrants: dict[str, Entrant] = field(default_factory=dict[str, Entrant])
    """By hotkey, without the champion."""
    seed: str = ""
    """S in hex; empty before activation."""
    order: tuple[str, ...] = ()
    """The entrants in registration order, without the champion; empty before activation."""
    _passes: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def champion(self) -> str | None:
        """Who defends the title."""
        return self.created.champion.hotkey if self.created.champion else None

    def accept(self, fact: e.EntrantAccepted) -> None:
        """One more is in."""
        self.entrants[fact.entrant.hotkey] = fact.entrant
        self._passes[fact.entrant.hotkey] = fact.number

    def close(self, fact: e.TournamentActivated) -> None:
        """Nobody else comes in: seed and order are fixed."""
        everyone = [*self.entrants.values(), *([self.created.champion] if self.created.champion else [])]
        lines = "\n".join(sorted(f"{entrant.hotkey}:{entrant.commit}" for entrant in everyone))
        frozen = hashlib.sha256(lines.encode()).digest()
        self.seed = sha256(bytes.fromhex(fact.draw_seed) + frozen + fact.beacon.encode())
        self.order = tuple(
            sorted(self.entrants, key=lambda h: (self._passes[h], self.position(0, "registration", h), h))
        )

    def rank(self, hotkey: str) -> int:
        """Place in the registration order, from 0; the champion's is −1."""
        return -1 if hotkey == self.champion else self.order.index(hotkey)

    def position(self, number: int, purpose: str, item: str) -> int:
        """Where the seed puts an item in that round's draw: the first 8 bytes of a hash, as a number."""
        return int(sha256(f"{self.seed}|{number}|{purpose}|{item}".encode())[:16], 16)


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()
