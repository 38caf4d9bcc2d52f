"""Invariant 7: the charges are the participants', once each, and go back when they bought nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tourney_ray.core import events as e


@dataclass
class _Till:
    """The money of one tournament, RAO by hotkey."""

    fee_rao: int
    paid: dict[str, e.Charged] = field(default_factory=dict[str, e.Charged])
    returned: set[str] = field(default_factory=set[str])
    entrants: set[str] = field(default_factory=set[str])
    refused: set[str] = field(default_factory=set[str])
    """Since they paid."""
    cancelled: bool = False


@dataclass
class Money:
    """A ledger of accounts and tills."""

    _accounts: dict[str, int] = field(default_factory=dict[str, int])
    """RAO by coldkey."""
    _transfers: set[str] = field(default_factory=set[str])
    _tills: dict[str, _Till] = field(default_factory=dict[str, _Till])

    def see(self, fact: e.Fact) -> Iterator[tuple[int, str]]:
        """Whether every RAO is where it belongs."""
        match fact:
            case e.TournamentCreated():
                self._tills[fact.tournament_id] = _Till(fact.rules.fee_rao[fact.tournament_type])
            case e.TransferCredited():
                if fact.transfer_id in self._transfers:
                    yield 7, f"transfer {fact.transfer_id} was credited twice"
                self._transfers.add(fact.transfer_id)
                self._pay(fact.coldkey, fact.rao)
            case e.Charged():
                yield from self._charged(fact)
            case e.Refunded():
                yield from self._refunded(fact)
            case _:
                yield from self._entered(fact)

    def end(self) -> Iterator[tuple[int, str]]:
        """Fees that should have gone back."""
        for tournament_id, till in self._tills.items():
            if void := set(till.paid) - till.returned - (set() if till.cancelled else till.entrants):
                yield 7, f"{min(void)} paid for {tournament_id}, got nothing, and the fee did not go back"

    def _entered(self, fact: e.Fact) -> Iterator[tuple[int, str]]:
        match fact:
            case e.EntrantAccepted():
                till, hotkey = self._tills[fact.tournament_id], fact.entrant.hotkey
                till.entrants.add(hotkey)
                if hotkey not in till.paid or hotkey in till.returned:
                    yield 7, f"{hotkey} entered without having paid"
            case e.EntrantRefused():
                self._tills[fact.tournament_id].refused.add(fact.hotkey)
            case e.TournamentCancelled():
                self._tills[fact.tournament_id].cancelled = True
            case _:
                pass

    def _charged(self, fact: e.Charged) -> Iterator[tuple[int, str]]:
        till = self._tills[fact.tournament_id]
        if fact.hotkey in till.paid:
            yield 7, f"{fact.hotkey} was charged twice"
        if fact.rao != till.fee_rao:
            yield 7, f"{fact.hotkey} was charged {fact.rao} RAO, the fee is {till.fee_rao}"
        till.paid[fact.hotkey] = fact
        self._pay(fact.coldkey, -fact.rao)
        if self._accounts[fact.coldkey] < 0:
            yield 7, f"{fact.coldkey} was charged more than it has"

    def _refunded(self, fact: e.Refunded) -> Iterator[tuple[int, str]]:
        till = self._tills[fact.tournament_id]
        paid = till.paid.get(fact.hotkey)
        if paid is None or (paid.coldkey, paid.rao) != (fact.coldkey, fact.rao):
            yield 7, f"{fact.coldkey} got {fact.rao} RAO back that {fact.hotkey} did not pay"
        if fact.hotkey in till.returned:
            yield 7, f"{fact.hotkey} got its fee back twice"
        if not till.cancelled and (fact.hotkey in till.entrants or fact.hotkey not in till.refused):
            yield 7, f"{fact.hotkey} got its fee back for a tournament that goes on with it"
        till.returned.add(fact.hotkey)
        self._pay(fact.coldkey, fact.rao)

    def _pay(self, coldkey: str, rao: int) -> None:
        self._accounts[coldkey] = self._accounts.get(coldkey, 0) + rao
