"""Which tasks the round after the one that is played will most likely have, so that they can be made ready meanwhile.

Nothing is decided here: a round that turns out otherwise has its tasks made when it is drawn.
"""

from __future__ import annotations

from tourney_ray.core import ids
from tourney_ray.core.commands import PrepareTask
from tourney_ray.core.models import RoundType
from tourney_ray.core.rounds import End, NextRound, next_step
from tourney_ray.core.state import Round, Tournament
from tourney_ray.core.tasks import slots


def foreseen_tasks(t: Tournament) -> list[PrepareTask]:
    """What will be prepared after the last round that was drawn, if every match of it sends on as many as it may.

    Empty before the first round, and where no other would follow.
    """
    last = t.round
    if last is None:
        return []
    champion = t.champion.hotkey if t.champion else None
    survivors = [f"survivor {i}" for i in range(_survivors(last, t))]
    following = next_step(survivors, champion, last.number + 1, t.rules)
    return [] if isinstance(following, End) else _tasks(t, last.number + 1, following)


def _survivors(last: Round, t: Tournament) -> int:
    """None of the boss round: it decides the title."""
    if last.round_type is RoundType.BOSS:
        return 0
    if last.round_type is RoundType.KNOCKOUT:
        return len(last.matches) + len(last.byes)
    return sum(min(len(match.entrants), t.rules.group_advance) for match in last.matches.values()) + len(last.byes)


def _tasks(t: Tournament, number: int, following: NextRound) -> list[PrepareTask]:
    drawn = ids.round_id(t.tournament_id, number)
    matches = [ids.group_id(drawn, i + 1) for i in range(following.groups)]
    matches = matches or [ids.pair_id(drawn, i + 1) for i in range(len(following.players) // 2)]
    kind, shape = t.tournament_type, following.round_type
    places = [ids.TaskPlace(match, slot, 1) for match in matches for slot in range(slots(kind, shape, t.rules))]
    return [PrepareTask(t.tournament_id, kind, shape, place, ids.task_id(place)) for place in places]
