"""11, 12: the licence that lets a tree in, and what entering costs (RULES §2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.builders import DRAW_SEED, SECRET_SEED, START, Stage, offer
from tests.effects.licence_trees import licensed
from tests.golden.adapters.t10_schedule import BLANK
from tests.golden.harness import Adapter, Fixed
from tourney_ray.core import events as e
from tourney_ray.core.draw import commitment
from tourney_ray.core.evolve import evolve
from tourney_ray.core.fees import shortfall
from tourney_ray.core.models import Refusal, TournamentStatus, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.settle import forced
from tourney_ray.core.state import State

RULES = Rules()
COLLECTION = "TARGET"
"""The operator's collection address."""


# --- 11


def accepted(given: Any) -> Any:
    with TemporaryDirectory() as folder:
        return licensed(Path(folder) / "tree", given["files"], given["variant"])


def links_are_refused(given: Any, recorded: Any) -> Fixed | None:
    return Fixed("§2", False) if any("->" in name for name in given["files"]) else None


# --- 12a, 12b


class Accounts:
    """Balances by our facts: each transfer id counts once, each fee is another hotkey's, each charge returns once."""

    def __init__(self, tournaments: set[str]) -> None:
        self.state = State(tournaments={tid: replace(BLANK, tournament_id=tid) for tid in tournaments})
        self.seen: set[str] = set()
        self.sent: dict[str, list[int]] = {}
        self.events: list[list[Any]] = []

    def transfers(self, feed: Any) -> None:
        for transfer in feed:
            fresh = transfer["id"] not in self.seen
            self.seen.add(transfer["id"])
            if fresh and transfer["to"] == COLLECTION:
                self.sent.setdefault(transfer["from"], []).append(transfer["amount"])
                self._happen(
                    e.TransferCredited(transfer_id=transfer["id"], coldkey=transfer["from"], rao=transfer["amount"])
                )

    def fee(self, coldkey: str, rao: int, tournament_id: str) -> bool:
        if shortfall(coldkey, self.state.balances.get(coldkey, 0), rao):
            return False
        hotkey = f"{coldkey}.{len(self.events)}"
        self._happen(e.Charged(tournament_id=tournament_id, hotkey=hotkey, coldkey=coldkey, rao=rao))
        self.events.append([tournament_id, coldkey, "participation_fee", -rao])
        return True

    def refund(self, tournament_id: str) -> int:
        """Cancel the tournament, which returns every fee; how many accounts get something back."""
        if self.state.tournaments[tournament_id].status is TournamentStatus.CANCELLED:
            return 0
        cancelled = e.TournamentCancelled(tournament_id=tournament_id, by="recorded", because="refunded")
        facts, self.state = forced(self.state, cancelled, START)
        back: dict[str, int] = {}
        for fact in facts:
            if isinstance(fact, e.Refunded):
                back[fact.coldkey] = back.get(fact.coldkey, 0) + fact.rao
        self.events += [[tournament_id, coldkey, "refund", rao] for coldkey, rao in back.items()]
        return len(back)

    def _happen(self, fact: e.Fact) -> None:
        self.state = evolve(self.state, fact, START)


def balances(given: Any) -> Any:
    accounts = Accounts({op[-1] for op in given["operations"] if op[0] != "transfers"})
    results = [getattr(accounts, name)(*arguments) for name, *arguments in given["operations"]]
    found = {
        coldkey: [balance, sum(accounts.sent[coldkey]), len(accounts.sent[coldkey])]
        for coldkey, balance in accounts.state.balances.items()
    }
    return {"balances": found, "events": accounts.events, "results": results}


def one_refund(given: Any, recorded: Any) -> Fixed | None:
    """What was refunded once is not refunded again: later refunds of a tournament pay nothing."""
    refunds = [(i, op[1]) for i, op in enumerate(given["operations"]) if op[0] == "refund"]
    again = [i for i, tid in refunds if any(j < i and other == tid for j, other in refunds)]
    if not again:
        return None
    seen: set[tuple[str, str]] = set()
    paid: list[list[Any]] = []
    held = {coldkey: [*numbers] for coldkey, numbers in recorded["balances"].items()}
    for tid, coldkey, kind, rao in recorded["events"]:
        if kind == "refund" and (tid, coldkey) in seen:
            held[coldkey][0] -= rao
            continue
        seen |= {(tid, coldkey)} if kind == "refund" else set()
        paid.append([tid, coldkey, kind, rao])
    results = [0 if i in again else result for i, result in enumerate(recorded["results"])]
    return Fixed("§2", {"balances": held, "events": paid, "results": results})


def money(output: Any) -> Any:
    """Of recorded balances; how far the feed was read is not the accounts'."""
    return {
        "balances": output["balances[balance,total_sent,count]"],
        "events": output["events"],
        "results": output["results"],
    }


def refunds(given: Any) -> Any:
    """How many of so many payers get their fee back."""
    accounts = Accounts({"T"})
    for i in range(given["payers"]):
        accounts.transfers([{"id": str(i), "from": f"c{i}", "to": COLLECTION, "amount": given["fee"]}])
        accounts.fee(f"c{i}", given["fee"], "T")
    return {"refunded": accounts.refund("T")}


# --- 12c


def registration(given: Any) -> Any:
    """Passes of asking until enough are in, or as often as recorded."""
    stage, kind = Stage(), TournamentType(given["tournament_type"])
    for coldkey, rao in {m["coldkey"]: m["balance"] for m in given["miners"]}.items():
        stage.record(e.TransferCredited(transfer_id=coldkey, coldkey=coldkey, rao=rao))
    stage.record(
        e.TournamentCreated(
            tournament_id="T",
            tournament_type=kind,
            rules=RULES,
            draw_commitment=commitment(DRAW_SEED),
            secret_commitment=commitment(SECRET_SEED),
            champion=None,
            because="recorded",
        )
    )
    for number in range(1, given["stopped_after_rounds"] + 1):
        if len(stage.state.tournaments["T"].entrants) < RULES.min_miners:
            known = stage.state.tournaments["T"].entrants
            answers = tuple(_answer(m) for m in given["miners"] if m["hotkey"] not in known)
            stage.record(e.RegistrationPassed(tournament_id="T", number=number, answers=answers))
    entrants = list(stage.state.tournaments["T"].entrants)
    charged = [fact for fact, _ in stage.facts if isinstance(fact, e.Charged)]
    return {
        "balances": stage.state.balances,
        "events": [["T", fact.coldkey, "participation_fee", -fact.rao] for fact in charged],
        "participants": entrants,
        "enough": len(entrants) >= RULES.min_miners,
    }


def _answer(miner: Any) -> Any:
    for flaw in ("obfuscated", "bad_license", "ping"):
        if miner.get(flaw):
            return Refusal(hotkey=miner["hotkey"], reason=flaw)
    return offer(miner["hotkey"]).model_copy(update={"coldkey": miner["coldkey"]})


def one_charge(given: Any, recorded: Any) -> Fixed:
    """Each participant paid once, whatever the number of passes."""
    fee = {"text": 200_000_000, "image": 150_000_000}[given["tournament_type"]]
    payers = [m["coldkey"] for h in recorded["participants"] for m in given["miners"] if m["hotkey"] == h]
    held = {m["coldkey"]: m["balance"] - fee * payers.count(m["coldkey"]) for m in given["miners"]}
    events = [["T", coldkey, "participation_fee", -fee] for coldkey in payers]
    return Fixed("§2", {**recorded, "balances": held, "events": events, "enough": len(payers) >= 8})


def entered(output: Any) -> Any:
    """Of a recorded registration: who is in and what it cost, and whether that makes a tournament."""
    return {
        "balances": {coldkey: held[0] for coldkey, held in output["balances[balance,total_sent,count]"].items()},
        "events": output["events"],
        "participants": output["participants"],
        "enough": isinstance(output["returned"], int) and output["returned"] >= RULES.min_miners,
    }


ADAPTERS = {
    "11_license": Adapter(accepted, links_are_refused),
    "12a_balances": Adapter(balances, one_refund, money),
    "12b_refund_limit": Adapter(refunds, lambda given, recorded: Fixed("§2", {"refunded": given["payers"]})),
    "12c_populate_participants": Adapter(registration, one_charge, entered),
}
