"""08: shares of the emission, who they go to, and who defends (RULES §2, §9)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tests.builders import START, offer
from tests.golden.adapters.reigns import NOBODY, completed, real_winner, reign_after
from tests.golden.adapters.t07_weights import GOD, due_points, due_weights, geometric, played, weights
from tests.golden.harness import BURN, Adapter, Fixed
from tourney_ray.core.models import RoundStatus, RoundType, TournamentStatus, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import Round, State, Tournament
from tourney_ray.core.weights import TypeResult, emission_boost, emission_weights

TEXT, IMAGE = TournamentType.TEXT, TournamentType.IMAGE
SPEC = Rules()
EACH = 0.0001


def _rules(base: Mapping[TournamentType, float], boosted: Mapping[TournamentType, float]) -> Rules:
    """Rules by which a difference is the boost itself, so that recorded shares can be put in."""
    return SPEC.model_copy(
        update={
            "type_weight": dict(base),
            "emission_cap": dict(boosted),
            "emission_boost_threshold": 0.0,
            "emission_boost_factor": 1.0,
            "burn_hotkey": BURN,
        }
    )


# --- one share, handed out


def applied(given: Any) -> Any:
    """Weights by node, and what was left of both types' boosted shares."""
    base = {kind: given[f"scaled_{kind.value}_base_weight"] for kind in (TEXT, IMAGE)}
    boosted = {kind: given[f"scaled_{kind.value}_tournament_weight"] for kind in (TEXT, IMAGE)}
    results = [
        TypeResult(
            kind,
            given[f"{kind.value}_winner_hotkey"],
            given[f"{kind.value}_weights"],
            performance_difference=boosted[kind] - base[kind],
            consecutive_wins=1,
        )
        for kind in (TEXT, IMAGE)
    ]
    nodes = given["hotkey_to_node_id"]
    shares = emission_weights(results, [], set(nodes), _rules(base, boosted))
    row = [0.0] * len(nodes)
    for hotkey, node in nodes.items():
        row[node] = shares.get(hotkey, 0.0)
    left = shares[BURN] - (1 - boosted[TEXT] - boosted[IMAGE])
    return {"node_weights": row, "undistributed": round(left, 12)}


def handed_out(output: Any) -> Any:
    """Of a recorded distribution; the difference of near equal numbers to 12 digits."""
    return {**output, "undistributed": round(output["undistributed"], 12)}


# --- the boost


def burn_details(given: Any) -> Any:
    """Differences and shares of both types, from the reigns of that history."""
    found = {kind: _share(given, kind) for kind in (TEXT, IMAGE)}
    return {
        "burn_weight": 1 - found[TEXT][1] - found[IMAGE][1],
        **{f"{kind.value}_performance_diff": found[kind][0] for kind in found},
        **{f"{kind.value}_tournament_weight": found[kind][1] for kind in found},
    }


def _share(given: Any, kind: TournamentType) -> tuple[float | None, float]:
    history = given["history_oldest_first"]
    reign = reign_after(history, kind.value, _differences(given, kind))
    base = SPEC.type_weight[kind]
    if reign is None or reign.champion.hotkey == NOBODY:
        return None, base
    boost = emission_boost(reign.performance_difference, reign.wins, SPEC)
    return reign.performance_difference, min(base + boost, SPEC.emission_cap[kind])


def _differences(given: Any, kind: TournamentType) -> dict[str, float]:
    """Performance differences as they would be recorded: the stored one, of the latest tournament the fresh one."""
    done = completed(given["history_oldest_first"], kind.value)
    stored = {h["id"]: h["perf"] or 0.0 for h in done}
    fresh = given["fresh_performance_difference"].get(kind.value)
    return stored | ({done[-1]["id"]: fresh} if done and fresh is not None else {})


def first_win_of_the_reign(given: Any, recorded: Any) -> Fixed:
    """The difference of the win that began the reign, less 0.01 for each further win in a row."""
    shares: dict[str, float] = {}
    due = {**recorded}
    for kind, base, cap in ((TEXT, 0.15, 0.6), (IMAGE, 0.10, 0.4)):
        d, wins = _first_win(given, kind)
        boost = 2 * (d - 0.05) if d is not None and d > 0.05 else 0.0
        shares[kind.value] = min(base + max(0.0, boost - 0.01 * max(0, wins - 1)), cap)
        due[f"{kind.value}_performance_diff"] = d
        due[f"{kind.value}_tournament_weight"] = shares[kind.value]
    return Fixed("§9", due | {"burn_weight": 1 - sum(shares.values())})


def _first_win(given: Any, kind: TournamentType) -> tuple[float | None, int]:
    """Difference of the reign's first win, walking back from the latest tournament, and the length of the reign."""
    done = completed(given["history_oldest_first"], kind.value)
    if not done or done[-1]["winner"] is None:
        return None, 0
    holder = real_winner(done[-1])
    length = next((i for i, h in enumerate(reversed(done)) if real_winner(h) != holder), len(done))
    return _differences(given, kind)[done[-length]["id"]], length


def details(output: Any) -> Any:
    """The decisions of recorded details; proportions follow from them, and which ones were fresh is not ours."""
    keys = ("burn_weight", "image_performance_diff", "image_tournament_weight")
    return {key: output[key] for key in (*keys, "text_performance_diff", "text_tournament_weight")}


# --- everybody's weight


def node_weights(given: Any) -> Any:
    """Weights in the order of the nodes, each by its hotkey, and their sum with that of a burn hotkey elsewhere."""
    boosted = {kind: given[f"{kind.value}_tournament_weight"] for kind in (TEXT, IMAGE)}
    results = [
        TypeResult(kind, t.winner, weights(t, 1.0, GOD), boosted[kind] - SPEC.type_weight[kind], 1)
        for kind in (TEXT, IMAGE)
        if given[kind.value] and (t := played(given[kind.value]))
    ]
    registered = {hotkey for hotkey, _ in given["nodes"]}
    rules = _rules(SPEC.type_weight, {k: max(boosted[k], SPEC.type_weight[k]) for k in boosted})
    return _by_node(given, emission_weights(results, given["participants"], registered, rules))


def _by_node(given: Any, shares: Mapping[str, float]) -> dict[str, Any]:
    return {
        "node_ids": [node for _, node in given["nodes"]],
        "node_weights": [shares.get(hotkey, 0.0) for hotkey, _ in given["nodes"]],
        "sum": math.fsum(shares.values()),
    }


def keyed_by_hotkey(given: Any, recorded: Any) -> Fixed:
    """Everything by hotkey; whatever nobody there takes is burnt, and all of it sums to 1."""
    scale = 1 - EACH * len(given["participants"])
    there = {hotkey for hotkey, _ in given["nodes"]}
    due = dict.fromkeys(sorted(there & set(given["participants"])), EACH)
    for kind, base in (("text", 0.15), ("image", 0.10)):
        if given[kind]:
            t = played(given[kind])
            for hotkey, weight in due_weights(due_points(t, 1.0), t.leaders, geometric).items():
                share = given[f"{kind}_tournament_weight"] if hotkey == t.winner else base
                due[hotkey] = due.get(hotkey, 0.0) + weight * share * scale * (hotkey in there)
    due[BURN] = 1 - sum(share for hotkey, share in due.items() if hotkey != BURN)
    return Fixed("§9", _by_node(given, due))


# --- who defends, who takes part


def contestant(given: Any) -> Any:
    """The hotkey that holds the title; None in the first tournament, where the configured contestant defends."""
    reign = reign_after(given["history_oldest_first"], given["tournament_type"])
    return None if reign is None or reign.champion.hotkey == NOBODY else reign.champion.hotkey


def active_participants(given: Any) -> Any:
    """Who still plays in an active tournament, by our state; the burn hotkey is the label of its champion."""
    tournaments = {t["id"]: _tournament(t, given["participants"]) for t in given["tournaments"]}
    return sorted(State(tournaments=tournaments).active_participants())


def _tournament(recorded: Any, participants: Any) -> Tournament:
    """A tournament of those participants, in a round of those who are not eliminated."""
    mine = [(h, out) for tid, h, out in participants if tid == recorded["id"]]
    playing = tuple(h for h, out in mine if out is None and h != BURN)
    drawn = Round("r", 2, RoundType.KNOCKOUT, {}, playing, START, RoundStatus.ACTIVE)
    return Tournament(
        tournament_id=recorded["id"],
        tournament_type=TournamentType(recorded["type"]),
        rules=SPEC,
        draw_commitment="",
        secret_commitment="",
        created_at=START,
        champion=offer(BURN) if any(h == BURN for h, _ in mine) else None,
        champion_wins=0,
        status=TournamentStatus(recorded["status"]),
        entrants={h: offer(h) for h, _ in mine if h != BURN},
        rounds=(drawn,),
    )


ADAPTERS = {
    "08a_emission_multiplier": Adapter(lambda given: emission_boost(given["performance_diff"], 1, SPEC)),
    "08b_apply_tournament_weights": Adapter(applied, compared=handed_out),
    "08c_burn_details": Adapter(burn_details, first_win_of_the_reign, details),
    "08d_node_weights": Adapter(node_weights, keyed_by_hotkey),
    "08e_base_contestant": Adapter(contestant, compared=lambda output: output["base_winner_hotkey"]),
    "08f_active_participants": Adapter(active_participants),
}
