"""What the rules force, given what is the case: decisions, as facts with their reasons (RULES §2, §3, §7, §8, §9).

`settle` gives the next forced facts and is applied until it gives none. It reads nothing but the state, so replaying a
journal recomputes every decision in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tourney_ray.core import events as e
from tourney_ray.core import ids
from tourney_ray.core.draw import draw_groups, draw_pairs, round_type
from tourney_ray.core.evolve import evolve
from tourney_ray.core.fees import shortfall, spell_rao
from tourney_ray.core.leases import fenced_leases
from tourney_ray.core.models import Refusal, RoundStatus, RoundType, TournamentStatus
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
    if not t.unanswered or t.last_pass is None:
        return []
    hotkey = t.unanswered[0]
    answer = next(a for a in t.last_pass.answers if a.hotkey == hotkey)
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


def _create_first_round(t: Tournament) -> e.RoundDrawn:
    return _draw(t, list(t.entrants))


def _draw(t: Tournament, placed: Sequence[str]) -> e.RoundDrawn:
    """The next round of these entrants, best placed first; the champion waits for the boss round."""
    number = len(t.rounds) + 1
    round_id = ids.round_id(t.tournament_id, number)
    kind = round_type(len(placed), t.rules)
    if kind is RoundType.GROUP:
        groups = draw_groups(t.seed, number, placed, 1)
        matches = [(ids.group_id(round_id, i), group) for i, group in enumerate(groups, start=1)]
        because = f"{len(placed)} entrants are more than {t.rules.knockout_at_most}: one group"
        because += f", the best {t.rules.group_advance} advance"
        return _round_drawn(t, number, kind, matches, (), because)
    pairs, byes = draw_pairs(t.seed, number, placed)
    because = f"{len(placed)} entrants: knock-out in pairs drawn by seed {t.seed[:12]}"
    because += f"; {byes[0]}, the best placed of an odd number, has a bye" if byes else ""
    return _round_drawn(
        t, number, kind, [(ids.pair_id(round_id, i), p) for i, p in enumerate(pairs, start=1)], byes, because
    )


def _round_drawn(
    t: Tournament,
    number: int,
    kind: RoundType,
    matches: Sequence[tuple[str, Sequence[str]]],
    byes: tuple[str, ...],
    because: str,
) -> e.RoundDrawn:
    return e.RoundDrawn(
        tournament_id=t.tournament_id,
        round_id=ids.round_id(t.tournament_id, number),
        number=number,
        round_type=kind,
        matches=tuple(e.MatchDrawn(match_id=match_id, entrants=tuple(entrants)) for match_id, entrants in matches),
        byes=byes,
        because=because,
    )


def _ripe_round(t: Tournament, active: Round) -> list[e.Fact]:
    decisions = [m.decided for m in active.matches.values()]
    if not all(decisions):
        return []
    through = {h for d in decisions if d for h in d.advancing} | set(active.byes)
    before = t.rounds[-2].advancing if len(t.rounds) > 1 else tuple(t.entrants)
    if active.round_type is RoundType.GROUP:
        advancing = tuple(h for d in decisions if d for h in d.advancing)
    elif active.round_type is RoundType.BOSS:
        advancing = tuple(through)
    else:
        advancing = tuple(h for h in before if h in through)
    because = f"all {len(decisions)} matches of round {active.number} are decided, {len(advancing)} advance"
    return [
        e.RoundCompleted(tournament_id=t.tournament_id, round_id=active.round_id, advancing=advancing, because=because)
    ]


def _next_step(t: Tournament, done: Round) -> e.Fact:
    survivors = done.advancing
    if done.round_type is RoundType.BOSS:
        return complete_after_boss_round(t, done)
    if len(survivors) > 1:
        return _draw(t, survivors)
    if len(survivors) == 1 and t.champion:
        return _draw_boss_round(t, t.champion.hotkey, survivors[0])
    if survivors:
        return complete(
            t, survivors[0], "uncontested", 0.0, f"{survivors[0]} is the last one standing; no champion to beat"
        )
    if t.champion:
        return complete(t, t.champion.hotkey, "defended", 0.0, "nobody survived: the champion keeps the title")
    return complete(t, None, "vacant", 0.0, "nobody survived and there is no champion: the title is vacant")


def _draw_boss_round(t: Tournament, champion: str, challenger: str) -> e.RoundDrawn:
    number = len(t.rounds) + 1
    round_id = ids.round_id(t.tournament_id, number)
    tasks = slots(t.tournament_type, RoundType.BOSS, t.rules)
    margin = boss_margin(t.champion_wins, t.rules)
    because = (
        f"one survivor: {challenger} challenges {champion} in {tasks} tasks, "
        f"with a margin of {100 * margin:.4g} % after {t.champion_wins} wins"
    )
    return _round_drawn(t, number, RoundType.BOSS, [(ids.pair_id(round_id, 1), (champion, challenger))], (), because)
