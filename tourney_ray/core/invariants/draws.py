"""Invariant 11: every draw follows from seeds that were committed to before anyone was asked (RULES §3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tourney_ray.core import events as e
from tourney_ray.core.invariants.books import OpenEnded
from tourney_ray.core.invariants.register import Register, sha256
from tourney_ray.core.models import RoundType


@dataclass
class _Book:
    register: Register
    standing: tuple[str, ...] = ()
    """Who plays on, best placed first."""


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
                self._books[fact.tournament_id].register.accept(fact)
            case e.TournamentActivated():
                book = self._books[fact.tournament_id]
                if sha256(bytes.fromhex(fact.draw_seed)) != book.register.created.draw_commitment:
                    yield 11, f"the draw seed of {fact.tournament_id} is not the one committed to"
                book.register.close(fact)
                book.standing = book.register.order
            case e.SecretRevealed():
                created = self._books[fact.tournament_id].register.created
                if sha256(bytes.fromhex(fact.secret_seed)) != created.secret_commitment:
                    yield 11, f"the secret seed of {fact.tournament_id} is not the one committed to"
            case e.RoundDrawn():
                yield from _drawn(self._books[fact.tournament_id], fact)
            case e.RoundCompleted():
                self._books[fact.tournament_id].standing = fact.advancing
            case _:
                pass

    def _created(self, fact: e.TournamentCreated) -> Iterator[tuple[int, str]]:
        self._books[fact.tournament_id] = _Book(Register(fact))
        if self._used & {fact.draw_commitment, fact.secret_commitment}:
            yield 11, f"{fact.tournament_id} commits to a seed of a tournament before it"
        self._used |= {fact.draw_commitment, fact.secret_commitment}


def _drawn(book: _Book, fact: e.RoundDrawn) -> Iterator[tuple[int, str]]:
    matches = [m.entrants for m in fact.matches]
    everyone = [h for m in matches for h in m]
    if len(everyone + list(fact.byes)) != len({*everyone, *fact.byes}):
        yield 11, f"somebody plays twice in {fact.round_id}"
    if ({*everyone, *fact.byes} ^ set(book.standing)) - {book.register.champion}:
        yield 11, f"others play in {fact.round_id} than those who were still in"
    if fact.byes not in ((), book.standing[:1]):
        yield 11, f"{fact.byes[0]} has the bye of {fact.round_id}, and was not the best placed"
    if fact.round_type is RoundType.BOSS:
        return
    purpose = "group" if fact.round_type is RoundType.GROUP else "pair"
    order = sorted(everyone, key=lambda h: (book.register.position(fact.number, purpose, h), h))
    if matches != _dealt(order, len(matches), fact.round_type):
        yield 11, f"the matches of {fact.round_id} are not those that the seed gives"


def _dealt(order: Sequence[str], matches: int, round_type: RoundType) -> list[tuple[str, ...]]:
    if round_type is RoundType.GROUP:
        return [tuple(order[i::matches]) for i in range(matches)]
    return [tuple(order[i : i + 2]) for i in range(0, len(order), 2)]
