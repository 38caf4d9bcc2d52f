"""The structure of a tournament (RULES §3): who plays the next round and in which shape, or that there is none.

Pure and without a draw: the same survivors in the same order give the same round, whatever the seed. Who meets whom is
`draw`'s to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tourney_ray.core.decisions import Title
from tourney_ray.core.models import RoundType
from tourney_ray.core.rules import Rules

ChampionMove = Literal["waits", "added", "dropped", "plays"]
"""What the champion does in a round: waits for its challenger, was added to make the players even, was dropped for the
same reason though it survived, or plays (as a survivor, or in the boss round).
"""


@dataclass(frozen=True, slots=True)
class NextRound:
    """A round to be drawn."""

    round_type: RoundType
    players: tuple[str, ...]
    """Who plays a match, best placed first; in the boss round the champion, then the challenger."""
    groups: int
    """Into how many groups they are dealt; 0 where they play in pairs."""
    bye: str | None
    """Who goes on without playing."""
    champion: ChampionMove
    because: str


@dataclass(frozen=True, slots=True)
class End:
    """No round is left to play: who holds the title now."""

    winner: str | None
    title: Title
    because: str


def next_step(survivors: Sequence[str], champion: str | None, number: int, rules: Rules) -> NextRound | End:
    """Round `number` (from 1) of these survivors, best placed first, or the end of the tournament.

    `champion` is the hotkey of who holds the title; it is among the survivors only where it evens rounds.
    """
    challengers = [hotkey for hotkey in survivors if hotkey != champion]
    if not challengers:
        return _without_challenger(survivors, champion)
    if len(challengers) == 1:
        return _last_challenger(challengers[0], champion)
    players, move = _even(survivors, champion, number, rules)
    if round_type(len(players), rules) is RoundType.GROUP:
        return _group_round(players, champion, move, rules)
    return _knockout_round(players, champion, move)


def round_type(players: int, rules: Rules) -> RoundType:
    """The shape of a round of so many, who are more than one and not champion and challenger."""
    return RoundType.GROUP if players > rules.knockout_at_most else RoundType.KNOCKOUT


def group_count(players: int, rules: Rules) -> int:
    """Into how many groups so many are dealt: ⌈players / `group_size`⌉, one fewer where they would be too small."""
    if rules.group_size is None:
        return 1
    groups = math.ceil(players / rules.group_size)
    return groups - 1 if groups > 1 and players / groups < rules.group_size_least else groups


def _without_challenger(survivors: Sequence[str], champion: str | None) -> End:
    if champion is None:
        return End(None, "vacant", "nobody survived and there is no champion: the title is vacant")
    who = "the champion is the only survivor" if survivors else "nobody survived"
    return End(champion, "defended", f"{who}: the champion keeps the title")


def _last_challenger(challenger: str, champion: str | None) -> NextRound | End:
    if champion is None:
        return End(challenger, "uncontested", f"{challenger} is the last one standing; no champion to beat")
    because = f"one survivor: {challenger} challenges {champion}"
    return NextRound(RoundType.BOSS, (champion, challenger), 0, None, "plays", because)


def _even(
    survivors: Sequence[str], champion: str | None, number: int, rules: Rules
) -> tuple[tuple[str, ...], ChampionMove]:
    """The players, made even by the champion where the rules say so; in round 1 only where pairs need it."""
    players = tuple(survivors)
    as_it_is: ChampionMove = "plays" if champion in players else "waits"
    if champion is None or not rules.champion_evens_rounds or len(players) % 2 == 0:
        return players, as_it_is
    if number == 1 and round_type(len(players), rules) is RoundType.GROUP:
        return players, as_it_is
    if champion in players:
        return tuple(hotkey for hotkey in players if hotkey != champion), "dropped"
    return (champion, *players), "added"


def _group_round(players: tuple[str, ...], champion: str | None, move: ChampionMove, rules: Rules) -> NextRound:
    groups = group_count(len(players), rules)
    because = f"{len(players)} entrants are more than {rules.knockout_at_most}: "
    because += "one group" if groups == 1 else f"{groups} groups"
    because += f", the best {rules.group_advance} {'' if groups == 1 else 'of each '}advance"
    return NextRound(RoundType.GROUP, players, groups, None, move, because + _spell(champion, move))


def _knockout_round(players: tuple[str, ...], champion: str | None, move: ChampionMove) -> NextRound:
    bye = players[0] if len(players) % 2 else None
    because = f"{len(players)} entrants: knock-out in pairs{_spell(champion, move)}"
    because += f"; {bye}, the best placed of an odd number, has a bye" if bye else ""
    return NextRound(RoundType.KNOCKOUT, players[1:] if bye else players, 0, bye, move, because)


def _spell(champion: str | None, move: ChampionMove) -> str:
    if move == "added":
        return f"; the champion {champion} joins them, without a margin, to make them even"
    return f"; the champion {champion} sits this round out to make them even" if move == "dropped" else ""
