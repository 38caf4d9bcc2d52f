"""How a fact changes the state. Total and deterministic; refuses what cannot follow with `IllegalTransition`."""

from __future__ import annotations

from datetime import datetime

from tourney_ray.core import events as e
from tourney_ray.core.draw import commitment, final_seed, position
from tourney_ray.core.leases import lease_began, lease_ended, lease_runs, node_changed
from tourney_ray.core.models import TournamentStatus
from tourney_ray.core.replacing import replace
from tourney_ray.core.state import Reign, State, Tournament
from tourney_ray.core.transitions import need, progress
from tourney_ray.errors import IllegalTransition


def evolve(state: State, fact: e.Fact, at: datetime) -> State:  # noqa: PLR0911 - a line per fact
    """The state after `fact`, recorded at `at`; raises `IllegalTransition` when it cannot follow."""
    state = replace(state, seq=state.seq + 1)
    match fact:
        case e.TournamentCreated():
            return _created(state, fact, at)
        case e.TransferCredited():
            return _credited(state, fact)
        case e.Charged():
            return _charged(state, fact)
        case e.Refunded():
            return _refunded(state, fact)
        case e.TournamentCompleted():
            return _completed(state, fact, at)
        case e.NodeJoined() | e.NodeLost() | e.NodeFenced():
            return node_changed(state, fact, at)
        case e.LeaseEnded():
            return lease_ended(state, fact)
        case _:
            state = _put_tournament(state, _within(_tournament(state, fact.tournament_id), fact, at))
            if isinstance(fact, e.AttemptStarted):
                return lease_began(state, fact, at)
            return lease_runs(state, fact, at) if isinstance(fact, e.AttemptRunning) else state


def is_known(state: State, fact: e.Fact) -> bool:
    """Whether an outcome tells what the state says already: watchers and money feeds may say a thing twice."""
    match fact:
        case e.TransferCredited():
            return fact.transfer_id in state.transfers
        case e.LeaseEnded():
            return fact.attempt_id not in state.leases
        case e.ImageBuilt():
            image = _tournament(state, fact.tournament_id).images.get(fact.hotkey)
            return image is not None and image.image_id == fact.image_id
        case e.AttemptRunning():
            return fact.attempt_id not in state.leases or _runs(state, fact)
        case _:
            return False


def _runs(state: State, fact: e.AttemptRunning) -> bool:
    training = _tournament(state, fact.tournament_id).tasks[fact.task_id].trainings[fact.hotkey]
    return any(a.attempt_id == fact.attempt_id and a.running_at is not None for a in training.attempts[-1:])


def _within(t: Tournament, fact: e.Fact, at: datetime) -> Tournament:  # noqa: PLR0911 - a line per fact
    """Facts that touch one tournament only."""
    match fact:
        case e.RegistrationPassed():
            return _registration_passed(t, fact, at)
        case e.EntrantAccepted():
            return _accepted(t, fact)
        case e.EntrantRefused():
            return _refused(t, fact)
        case e.TournamentActivated():
            return _activated(t, fact, at)
        case e.TournamentCancelled():
            return _cancelled(t, fact)
        case e.SecretRevealed():
            return _revealed(t, fact)
        case _:
            return progress(t, fact, at)


# --- tournaments and money


def _created(state: State, fact: e.TournamentCreated, at: datetime) -> State:
    need(fact.tournament_id not in state.tournaments, fact, "there is a tournament of that id")
    running = [t.tournament_id for t in state.live() if t.tournament_type is fact.tournament_type]
    need(not running, fact, f"{running} of its type still runs")
    _need_titleholder(state.reigns.get(fact.tournament_type), fact)
    tournament = Tournament(
        tournament_id=fact.tournament_id,
        tournament_type=fact.tournament_type,
        rules=fact.rules,
        draw_commitment=fact.draw_commitment,
        secret_commitment=fact.secret_commitment,
        created_at=at,
        champion=fact.champion,
        champion_wins=fact.champion_wins,
        announced_beacon=fact.beacon,
    )
    return _put_tournament(state, tournament)


def _need_titleholder(reign: Reign | None, fact: e.TournamentCreated) -> None:
    """Who holds the title defends it, with the tree that won it and the wins that it has; else nobody has any wins."""
    if reign is None:
        need(fact.champion_wins == 0, fact, "nobody has won a tournament of this type yet")
        return
    entered = (fact.champion.hotkey, fact.champion.tree_hash) if fact.champion else None
    due = (reign.champion.hotkey, reign.champion.tree_hash)
    need(entered == due, fact, f"{reign.champion.hotkey} holds the title, with tree {reign.champion.tree_hash[:12]}")
    need(fact.champion_wins == reign.wins, fact, f"{reign.champion.hotkey} has won {reign.wins} times")


def _credited(state: State, fact: e.TransferCredited) -> State:
    need(fact.transfer_id not in state.transfers, fact, "the transfer was credited before")
    balance = state.balances.get(fact.coldkey, 0) + fact.rao
    balances = {**state.balances, fact.coldkey: balance}
    return replace(state, balances=balances, transfers=state.transfers | {fact.transfer_id})


def _charged(state: State, fact: e.Charged) -> State:
    tournament = _tournament(state, fact.tournament_id)
    need(fact.hotkey not in tournament.charges, fact, "it was charged before")
    balance = state.balances.get(fact.coldkey, 0) - fact.rao
    need(balance >= 0, fact, "the balance does not cover it")
    charges = {**tournament.charges, fact.hotkey: fact}
    state = replace(state, balances={**state.balances, fact.coldkey: balance})
    return _put_tournament(state, replace(tournament, charges=charges))


def _refunded(state: State, fact: e.Refunded) -> State:
    tournament = _tournament(state, fact.tournament_id)
    charge = tournament.charges.get(fact.hotkey)
    if charge is None:
        raise IllegalTransition(f"Refunded cannot follow: {fact.hotkey} was not charged")
    need(fact.hotkey not in tournament.refunded, fact, "it was refunded before")
    need((fact.coldkey, fact.rao) == (charge.coldkey, charge.rao), fact, f"{charge.coldkey} paid {charge.rao} RAO")
    balances = {**state.balances, fact.coldkey: state.balances.get(fact.coldkey, 0) + fact.rao}
    return _put_tournament(
        replace(state, balances=balances), replace(tournament, refunded=tournament.refunded | {fact.hotkey})
    )


def _completed(state: State, fact: e.TournamentCompleted, at: datetime) -> State:
    t = _tournament(state, fact.tournament_id)
    need(t.status is TournamentStatus.ACTIVE, fact, f"the tournament is {t.status}")
    t = replace(t, status=TournamentStatus.COMPLETED, completed=fact, completed_at=at)
    state = _put_tournament(state, t)
    if fact.winner is None:
        return state
    old = state.reigns.get(t.tournament_type)
    goes_on = old is not None and old.champion.hotkey == fact.winner
    reign = Reign(
        champion=t.contestant(fact.winner),
        wins=t.champion_wins + 1 if fact.title == "defended" else 1,
        performance_difference=old.performance_difference if old and goes_on else fact.performance_difference,
        tournament_id=fact.tournament_id,
    )
    return replace(state, reigns={**state.reigns, t.tournament_type: reign})


# --- registration


def _registration_passed(t: Tournament, fact: e.RegistrationPassed, at: datetime) -> Tournament:
    need(t.status is TournamentStatus.PENDING and not t.unanswered, fact, "registration is not open")
    need(fact.number == t.passes + 1, fact, f"pass {t.passes + 1} is due")
    need(len(t.entrants) < t.rules.min_miners, fact, f"{len(t.entrants)} entrants are in, which is enough")
    known = {*t.entrants, *((t.champion.hotkey,) if t.champion else ())}
    answers = {a.hotkey: a for a in reversed(fact.answers)}  # of two answers of one hotkey the first counts
    asked = tuple(dict.fromkeys(a.hotkey for a in fact.answers if a.hotkey not in known))
    return replace(t, passes=fact.number, answers=answers, unanswered=asked, passed_at=at)


def _accepted(t: Tournament, fact: e.EntrantAccepted) -> Tournament:
    hotkey = fact.entrant.hotkey
    need(hotkey in t.unanswered, fact, f"{hotkey} waits for no answer")
    need(hotkey in t.charges and hotkey not in t.refunded, fact, f"{hotkey} has not paid")
    return replace(
        t,
        entrants={**t.entrants, hotkey: fact.entrant},
        accepted_in={**t.accepted_in, hotkey: fact.number},
        refusals=_forget(t.refusals, hotkey),
        unanswered=_without(t.unanswered, hotkey),
    )


def _refused(t: Tournament, fact: e.EntrantRefused) -> Tournament:
    need(fact.hotkey in t.unanswered, fact, f"{fact.hotkey} waits for no answer")
    refusals = {**t.refusals, fact.hotkey: fact.because}
    return replace(t, refusals=refusals, unanswered=_without(t.unanswered, fact.hotkey))


def _forget(refusals: dict[str, str], hotkey: str) -> dict[str, str]:
    return {h: why for h, why in refusals.items() if h != hotkey} if hotkey in refusals else refusals


def _without(hotkeys: tuple[str, ...], hotkey: str) -> tuple[str, ...]:
    place = hotkeys.index(hotkey)
    return hotkeys[:place] + hotkeys[place + 1 :]


def _activated(t: Tournament, fact: e.TournamentActivated, at: datetime) -> Tournament:
    need(t.status is TournamentStatus.PENDING and not t.unanswered, fact, "registration is not done")
    need(len(t.entrants) >= t.rules.min_miners, fact, f"{len(t.entrants)} of {t.rules.min_miners} entrants are in")
    need(commitment(fact.draw_seed) == t.draw_commitment, fact, "the seed is not the one committed to")
    need(bool(fact.beacon) == bool(t.announced_beacon), fact, f"the beacon announced is {t.announced_beacon or 'none'}")
    everyone = [*t.entrants.values(), *((t.champion,) if t.champion else ())]
    seed = final_seed(fact.draw_seed, [(o.hotkey, o.commit) for o in everyone], fact.beacon)
    order = sorted(t.entrants, key=lambda h: (t.accepted_in[h], position(seed, 0, "registration", h), h))
    return replace(
        t,
        status=TournamentStatus.ACTIVE,
        draw_seed=fact.draw_seed,
        beacon=fact.beacon,
        seed=seed,
        entrants={h: t.entrants[h] for h in order},
        ranks={h: rank for rank, h in enumerate(order)},
        activated_at=at,
    )


def _cancelled(t: Tournament, fact: e.TournamentCancelled) -> Tournament:
    over = t.status not in (TournamentStatus.PENDING, TournamentStatus.ACTIVE)
    need(not over, fact, f"the tournament is {t.status}")
    return replace(t, status=TournamentStatus.CANCELLED, cancelled=fact, unanswered=())


def _revealed(t: Tournament, fact: e.SecretRevealed) -> Tournament:
    need(t.status is TournamentStatus.COMPLETED and not t.secret_seed, fact, "the secret is not due")
    need(commitment(fact.secret_seed) == t.secret_commitment, fact, "the seed is not the one committed to")
    return replace(t, secret_seed=fact.secret_seed)


def _tournament(state: State, tournament_id: str) -> Tournament:
    if tournament_id not in state.tournaments:
        raise IllegalTransition(f"there is no tournament {tournament_id}")
    return state.tournaments[tournament_id]


def _put_tournament(state: State, t: Tournament) -> State:
    return replace(state, tournaments={**state.tournaments, t.tournament_id: t})
