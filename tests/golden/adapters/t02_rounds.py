"""02, 03: the structure of a round and what follows it, by the preset `god-2025-12` (RULES §3)."""

from __future__ import annotations

from typing import Any

from tests.golden.harness import BURN, Adapter, Fixed
from tourney_ray.core import ids
from tourney_ray.core.draw import draw_groups
from tourney_ray.core.models import RoundType
from tourney_ray.core.rounds import End, NextRound, next_step
from tourney_ray.core.rules import Rules

GOD = Rules.preset("god-2025-12")
BOSS, SEED, TOURNAMENT = "BOSS", "00" * 32, "tourn_x_20250101"
KEPT = {"end": BOSS}
"""No round: the champion keeps the title."""


def _step(count: int, boss_among: bool, number: int) -> NextRound | End:
    """What follows `count` survivors, the champion one of them or not; round 1 makes pairs even and leaves groups."""
    players = [f"hk{i:03d}" for i in range(count - boss_among)] + [BOSS] * boss_among
    return next_step(players, BOSS, number, GOD)


def _shape(step: NextRound) -> dict[str, Any]:
    """Members and matches; a boss round is what the implementation calls the last knock-out."""
    if step.round_type is RoundType.GROUP:
        sizes = [len(group) for group in draw_groups(SEED, 1, step.players, step.groups)]
        return {"members": len(step.players), "group_sizes_desc": sorted(sizes, reverse=True)}
    return {"members": len(step.players), "pairs": len(step.players) // 2}


def organised(given: Any) -> Any:
    step = _step(given["n"], given["boss_among_nodes"], 1)
    if isinstance(step, End):
        return {"end": step.winner}
    dropped = step.champion == "dropped"
    common = {
        "all_input_present": not dropped,
        "boss_in_round": BOSS in step.players,
        "distinct": len(set(step.players)),
        **_shape(step),
    }
    if step.round_type is RoundType.GROUP:
        return {**common, "groups": step.groups, "type": "group"}
    added = step.champion == "added" or (step.round_type is RoundType.BOSS and not given["boss_among_nodes"])
    return {
        **common,
        "boss_added": added,
        "boss_removed": dropped,
        "dropped": [BOSS] if dropped else [],
        "self_pairs": 0,
        "type": "knockout",
    }


def nobody_to_play(given: Any, recorded: Any) -> Fixed | None:
    """The champion alone: no round without pairs."""
    return Fixed("§3", KEPT) if given["n"] == given["boss_among_nodes"] else None


def created(given: Any) -> Any:
    number = given["completed_round_number"] + 1
    step = _step(given["winners"], given["boss_among_winners"], number)
    if isinstance(step, End):
        return {"end": step.winner}
    last = step.round_type is RoundType.BOSS
    return {
        **_shape(step),
        "boss_appended": step.champion == "added" or (last and not given["boss_among_winners"]),
        "boss_in_round": BOSS in step.players,
        "boss_removed": step.champion == "dropped",
        "created": True,
        "is_final_round": last,
        "lost": [],
        "round_id": ids.round_id(TOURNAMENT, number),
        "round_number": number,
        "round_type": "group" if step.round_type is RoundType.GROUP else "knockout",
    }


def nobody_is_missing(given: Any, recorded: Any) -> Fixed | None:
    """Who left the registry plays on, and no pairs is no round: worked out from the number of winners alone."""
    winners, inside = given["winners"], given["boss_among_winners"]
    if winners == inside:
        return Fixed("§3", KEPT)
    if not given["missing_nodes"]:
        return None
    appended, removed = winners % 2 == 1 and not inside, winners % 2 == 1 and inside
    members = winners + appended - removed
    number = given["completed_round_number"] + 1
    due: dict[str, Any] = {
        "boss_appended": appended,
        "boss_in_round": appended or (inside and not removed),
        "boss_removed": removed,
        "created": True,
        "is_final_round": winners == 1 or (winners == 2 and inside),
        "lost": [],
        "members": members,
        "round_id": f"{TOURNAMENT}_round_{number:03d}",
        "round_number": number,
        "round_type": "knockout" if members <= 14 else "group",
    }
    return Fixed("§3", due | ({"pairs": members // 2} if members <= 14 else {"group_sizes_desc": _sizes(members)}))


def _sizes(members: int) -> list[int]:
    groups = -(-members // 32)
    groups -= groups > 1 and members < 20 * groups
    return [members // groups + (i < members % groups) for i in range(groups)]


def advanced(given: Any) -> Any:
    """03b: after a round, who holds the title or who plays on, and who is out."""
    champion, burn = BURN, BURN
    entered = [hotkey for hotkey, left in given["parts"] if left is None]
    winners = given["winners"]
    if given["final"]:
        (pair,) = given["pairs"]
        holder = winners[0]
        second = next(h for h in pair if h != holder)
        out = sorted(h for h in entered if h not in winners)
        return _advanced(out, None, holder, [[holder, 1], [second, 2]], holder if holder != burn else None)
    step = next_step(winners, champion, 2, GOD)
    playing = set(winners) | {champion}
    out = sorted(h for h in entered if h not in playing)
    if isinstance(step, End):
        return _advanced(out, None, step.winner, [[step.winner, 1]], None)
    return _advanced(out, winners, None, [], None)


def _advanced(out: list[str], following: Any, holder: Any, uploads: Any, benchmark: Any) -> dict[str, Any]:
    return {
        "benchmark_for": benchmark,
        "eliminated": out,
        "next_round": following,
        "notified": ["text", holder] if holder else None,
        "status_changes": [],
        "uploads": uploads,
        "winner_set": holder,
    }


def champion_is_not_out(given: Any, recorded: Any) -> Fixed | None:
    """The champion waits for its challenger: before the boss round it is never among the eliminated."""
    if given["final"]:
        return None
    out = [hotkey for hotkey in recorded["eliminated"] if hotkey != BURN]
    return Fixed("§3", {**recorded, "eliminated": out})


ADAPTERS = {
    "02_organise_round": Adapter(organised, nobody_to_play),
    "03_create_next_round": Adapter(created, nobody_is_missing),
    "03b_advance_tournament": Adapter(advanced, champion_is_not_out),
}
