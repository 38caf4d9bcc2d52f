"""What the rules force, given what is the case: decisions, as facts with their reasons (RULES §2, §3, §7, §8, §9).

`settle` gives the next forced facts and is applied until it gives none. It reads nothing but the state, so replaying a
journal recomputes every decision in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tourney_ray.core import events as e, ids
from tourney_ray.core.draw import draw_groups, draw_pairs
from tourney_ray.core.evolve import evolve
from tourney_ray.core.fees import shortfall, spell_rao
from tourney_ray.core.leases import fenced_leases
from tourney_ray.core.models import Refusal, RoundStatus, RoundType, TournamentStatus
from tourney_ray.core.rounds import End, NextRound, next_step
from tourney_ray.core.rulings import complete, complete_after_boss_round, ripe_matches, ripe_tasks
from tourney_ray.core.state import Round, State, Tournament
from tourney_ray.core.tasks import assign_nodes_to_tournament_tasks, slots
from tourney_ray.core.verdict import boss_margin


def settle(state: State) -> tuple[e.Fact, ...]:
    """The next facts that the rules force, of the first live tournament that has any; empty at the fixed point."""
    if ends := fenced_leases(state):
        return tuple(ends)
    for t in state.tournaments.values():
        if t.status is TournamentStatus.CANCELLED and len(t.refunded) < len(t.charges):
            return _refunds(t)
    for t in state.live():
        facts = _registration(state, t) or process_pending_rounds(t) or process_active_tournaments(t)
        if facts:
            return tuple(facts)
    return ()


def forced(state: State, fact: e.Fact, at: datetime) -> tuple[list[e.Fact], State]:
    """`fact` with all that the rules force after it, in the journal's order, and the state after them."""
    facts, state = [fact], evolve(state, fact, at)
    while batch := settle(state):
        for decision in batch:
            state = evolve(state, decision, at)
        facts += batch
    return facts, state


def process_pending_rounds(t: Tournament) -> list[e.Fact]:
    """Make a drawn round active once every slot of every match has its task, and assign its entrants."""
    drawn = t.round
    if drawn is None or drawn.status is not RoundStatus.PENDING:
        return []
    wanted = slots(t.tournament_type, drawn.round_type, t.rules)
    if any(len(match.tasks) < wanted for match in drawn.matches.values()):
        return []
    tasks = [(match.tasks[slot], match.entrants) for match in drawn.matches.values() for slot in sorted(match.tasks)]
    assignments = assign_nodes_to_tournament_tasks(t.tournament_id, tasks)
    return [e.RoundActivated(tournament_id=t.tournament_id, round_id=drawn.round_id, assignments=assignments)]


def process_active_tournaments(t: Tournament) -> list[e.Fact]:
    """Decide tasks, matches and rounds that are ripe; draw the next round or complete the tournament."""
    if t.status is not TournamentStatus.ACTIVE:
        return []
    last = t.round
    if last is None:
        return [_create_first_round(t)]
    if last.status is RoundStatus.ACTIVE:
        return [*ripe_tasks(t, last)] or [*ripe_matches(t, last)] or _ripe_round(t, last)
    if last.status is RoundStatus.COMPLETED:
        return [_next_step(t, last)]
    return []


# --- registration


def _registration(state: State, t: Tournament) -> list[e.Fact]:
    if not t.unanswered:
        return []
    hotkey = t.unanswered[0]
    answer = t.answers[hotkey]
    if isinstance(answer, Refusal):
        return [_refuse(t, hotkey, answer.reason), *_refund(t, hotkey, answer.reason)]
    if hotkey in t.refunded:
        return [_refuse(t, hotkey, "its fee was returned in this tournament, which takes it once")]
    fee = t.rules.fee_rao[t.tournament_type]
    because = f"tree {answer.tree_hash[:12]} passed the vetting, {spell_rao(fee)} paid by {answer.coldkey}"
    accepted = e.EntrantAccepted(tournament_id=t.tournament_id, entrant=answer, number=t.passes, because=because)
    if hotkey in t.charges:
        return [accepted]
    missing = shortfall(answer.coldkey, state.balances.get(answer.coldkey, 0), fee)
    if missing:
        return [_refuse(t, hotkey, missing)]
    return [e.Charged(tournament_id=t.tournament_id, hotkey=hotkey, coldkey=answer.coldkey, rao=fee), accepted]


def _refunds(t: Tournament) -> tuple[e.Refunded, ...]:
    """Every fee of a cancelled tournament, back to whoever paid it."""
    because = f"the tournament was cancelled by {t.cancelled.by}" if t.cancelled else "the tournament was cancelled"
    return tuple(refund for hotkey in t.charges for refund in _refund(t, hotkey, because))


def _refund(t: Tournament, hotkey: str, because: str) -> tuple[e.Refunded, ...]:
    """The fee of that hotkey, when it paid one and has not got it back."""
    charge = t.charges.get(hotkey)
    if charge is None or hotkey in t.refunded:
        return ()
    paid = charge.model_dump(include={"tournament_id", "hotkey", "coldkey", "rao"})
    return (e.Refunded(**paid, because=because),)


def _refuse(t: Tournament, hotkey: str, because: str) -> e.EntrantRefused:
    return e.EntrantRefused(tournament_id=t.tournament_id, hotkey=hotkey, number=t.passes, because=because)


# --- rounds


def _create_first_round(t: Tournament) -> e.Fact:
    return _follow(t, tuple(t.entrants))


def _next_step(t: Tournament, done: Round) -> e.Fact:
    return complete_after_boss_round(t, done) if done.round_type is RoundType.BOSS else _follow(t, done.advancing)


def _follow(t: Tournament, survivors: Sequence[str]) -> e.Fact:
    """What follows with these survivors, best placed first: the next round, or the end."""
    step = next_step(survivors, t.champion.hotkey if t.champion else None, len(t.rounds) + 1, t.rules)
    return complete(t, step.winner, step.title, 0.0, step.because) if isinstance(step, End) else _round_drawn(t, step)


def _round_drawn(t: Tournament, step: NextRound) -> e.RoundDrawn:
    number = len(t.rounds) + 1
    round_id = ids.round_id(t.tournament_id, number)
    return e.RoundDrawn(
        tournament_id=t.tournament_id,
        round_id=round_id,
        number=number,
        round_type=step.round_type,
        matches=tuple(e.MatchDrawn(match_id=i, entrants=entrants) for i, entrants in _matches(t, round_id, step)),
        byes=(step.bye,) if step.bye else (),
        because=step.because + _conditions(t, step),
    )


def _matches(t: Tournament, round_id: str, step: NextRound) -> list[tuple[str, tuple[str, ...]]]:
    """Ids and entrants of a round's matches, as drawn; the boss round has nothing to draw."""
    number = len(t.rounds) + 1
    if step.round_type is RoundType.GROUP:
        groups = draw_groups(t.seed, number, step.players, step.groups)
        return [(ids.group_id(round_id, i), group) for i, group in enumerate(groups, start=1)]
    boss = step.round_type is RoundType.BOSS
    pairs = [step.players] if boss else draw_pairs(t.seed, number, step.players)
    return [(ids.pair_id(round_id, i), pair) for i, pair in enumerate(pairs, start=1)]


def _conditions(t: Tournament, step: NextRound) -> str:
    if step.round_type is not RoundType.BOSS:
        return f"; drawn by seed {t.seed[:12]}"
    tasks, margin = slots(t.tournament_type, RoundType.BOSS, t.rules), boss_margin(t.champion_wins, t.rules)
    return f" in {tasks} tasks, with a margin of {100 * margin:.4g} % after {t.champion_wins} wins"


def _ripe_round(t: Tournament, active: Round) -> list[e.Fact]:
    decisions = [m.decided for m in active.matches.values() if m.decided]
    if len(decisions) < len(active.matches):
        return []
    advancing = _advancing(t, active, decisions)
    because = f"all {len(decisions)} matches of round {active.number} are decided, {len(advancing)} advance"
    return [
        e.RoundCompleted(tournament_id=t.tournament_id, round_id=active.round_id, advancing=advancing, because=because)
    ]


def _advancing(t: Tournament, active: Round, decisions: Sequence[e.MatchDecided]) -> tuple[str, ...]:
    """Who plays on, best placed first: by place in the group, then by registration; after pairs as they stood before.

    A champion that joined the pairs did not stand anywhere: it comes first.
    """
    if active.round_type is RoundType.GROUP:
        placed = [(place, t.registration_rank(h), h) for d in decisions for place, h in enumerate(d.advancing)]
        return tuple(hotkey for _, _, hotkey in sorted(placed))
    through = {h for d in decisions for h in d.advancing} | set(active.byes)
    before = t.rounds[-2].advancing if len(t.rounds) > 1 else tuple(t.entrants)
    joined = tuple(h for h in through if h not in before)
    return (*joined, *(h for h in before if h in through))
