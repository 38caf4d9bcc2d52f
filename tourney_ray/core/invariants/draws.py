"""Invariant 11: every draw follows from seeds that were committed to before anyone was asked (RULES §3).

The hashes are written out here once more; see `draw` for the functions that draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tourney_ray.core import events as e
from tourney_ray.core.invariants.books import OpenEnded
from tourney_ray.core.models import RoundType


@dataclass
class _Book:
    created: e.TournamentCreated
    lines: list[str]
    """`hotkey:commit` of everybody who is in."""
    seed: str = ""
    """S in hex; empty before activation."""


@dataclass
class Draws(OpenEnded):
    """Commitments, what was frozen, and the seed that follows, by tournament."""

    _books: dict[str, _Book] = field(default_factory=dict[str, _Book])
    _used: set[str] = field(default_factory=set[str])
    """Commitments of all tournaments: a seed serves once."""

    def see(self, fact: e.Fact) -> Iterator[tuple[int, str]]:
        """Whether seeds match their commitments, and rounds their seed."""
        match fact:
            case e.TournamentCreated():
                yield from self._created(fact)
            case e.EntrantAccepted():
                book = self._books[fact.tournament_id]
                book.lines.append(f"{fact.entrant.hotkey}:{fact.entrant.commit}")
            case e.TournamentActivated():
                book = self._books[fact.tournament_id]
                if _sha(bytes.fromhex(fact.draw_seed)) != book.created.draw_commitment:
                    yield 11, f"the draw seed of {fact.tournament_id} is not the one committed to"
                frozen = hashlib.sha256("\n".join(sorted(book.lines)).encode()).digest()
                book.seed = _sha(bytes.fromhex(fact.draw_seed) + frozen + fact.beacon.encode())
            case e.SecretRevealed():
                if _sha(bytes.fromhex(fact.secret_seed)) != self._books[fact.tournament_id].created.secret_commitment:
                    yield 11, f"the secret seed of {fact.tournament_id} is not the one committed to"
            case e.RoundDrawn():
                yield from _drawn(self._books[fact.tournament_id].seed, fact)
            case _:
                pass

    def _created(self, fact: e.TournamentCreated) -> Iterator[tuple[int, str]]:
        champion = fact.champion
        lines = [f"{champion.hotkey}:{champion.commit}"] if champion else []
        self._books[fact.tournament_id] = _Book(fact, lines)
        if self._used & {fact.draw_commitment, fact.secret_commitment}:
            yield 11, f"{fact.tournament_id} commits to a seed of a tournament before it"
        self._used |= {fact.draw_commitment, fact.secret_commitment}


def _drawn(seed: str, fact: e.RoundDrawn) -> Iterator[tuple[int, str]]:
    matches = [m.entrants for m in fact.matches]
    everyone = [h for m in matches for h in m]
    if len(everyone + list(fact.byes)) != len({*everyone, *fact.byes}):
        yield 11, f"somebody plays twice in {fact.round_id}"
    if fact.round_type is RoundType.BOSS:
        return
    purpose = "group" if fact.round_type is RoundType.GROUP else "pair"
    order = sorted(everyone, key=lambda h: (_position(seed, fact.number, purpose, h), h))
    if matches != _dealt(order, len(matches), fact.round_type):
        yield 11, f"the matches of {fact.round_id} are not those that the seed gives"


def _dealt(order: Sequence[str], matches: int, round_type: RoundType) -> list[tuple[str, ...]]:
    if round_type is RoundType.GROUP:
        return [tuple(order[i::matches]) for i in range(matches)]
    return [tuple(order[i : i + 2]) for i in range(0, len(order), 2)]


def _position(seed: str, number: int, purpose: str, item: str) -> int:
    return int(hashlib.sha256(f"{seed}|{number}|{purpose}|{item}".encode()).hexdigest()[:16], 16)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
