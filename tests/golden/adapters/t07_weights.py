"""07: points, places and weights of one tournament (RULES §9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.golden.harness import BURN, Adapter, Fixed, Skipped
from tourney_ray.core.models import TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.weights import exponential_decline_mapping, standings, task_points

GOD = Rules.preset("god-2025-12")
SPEC = Rules()
Worth = Callable[[int, int], float]
"""From rank and number of places to what the place is worth, before normalising."""


# --- the mapping


def mapping(given: Any) -> Any:
    """Our share; where the recording is of the raw power, the share relative to the first place's."""
    n, rank = given["total_participants"], given["rank"]
    if "base" in given:
        return exponential_decline_mapping(n, rank, GOD.model_copy(update={"weight_decay_base": given["base"]}))
    rules = SPEC.model_copy(update={"weight_decay_rate": given["rate"]})
    return exponential_decline_mapping(n, rank, rules) / exponential_decline_mapping(n, 1, rules)


def no_minimum(given: Any, recorded: Any) -> Skipped | None:
    """A winner's minimum weight was tried for a while and is no rule."""
    return Skipped("no minimum weight of a winner") if given["version"].startswith("winner-minimum@") else None


# --- tournaments


@dataclass(frozen=True)
class Played:
    """A recorded tournament under our names: the champion has its own hotkey, and a filler where there was none."""

    champion: str | None
    winner: str | None
    wins: tuple[tuple[int, str | None], ...]

    @property
    def dethroned(self) -> str | None:
        """The champion that lost its title."""
        return self.champion if self.winner and self.winner != self.champion else None

    @property
    def leaders(self) -> list[str]:
        """Who is placed before the points order."""
        return [hotkey for hotkey in (self.winner, self.dethroned) if hotkey]


def played(tournament: Any) -> Played:
    champion = tournament.get("base_winner_hotkey")

    def named(hotkey: str | None) -> str | None:
        return champion if champion and hotkey == BURN else hotkey

    wins = [(r["round_number"], named(w)) for r in tournament["rounds"] for w in r["task_winners"]]
    return Played(champion, named(tournament["winner_hotkey"]), tuple(wins))


def points(t: Played, type_weight: float) -> dict[str, float]:
    return task_points(t.wins, type_weight, {h for h in (t.champion, t.winner) if h})


def weights(t: Played, type_weight: float, rules: Rules) -> dict[str, float]:
    return {s.hotkey: s.weight for s in standings(points(t, type_weight), t.winner, t.dethroned, rules)}


def due_points(t: Played, type_weight: float) -> dict[str, float]:
    """Round number × type weight for each task won; the champion and the tournament's winner earn none."""
    scorers = {w for _, w in t.wins if w} - {t.champion, t.winner}
    return {h: sum(number for number, w in t.wins if w == h) * type_weight for h in scorers}


def due_weights(scores: Mapping[str, float], leaders: Sequence[str], worth: Worth) -> dict[str, float]:
    """Leaders, then by points; equal points share the mean of their places; all of it normalised."""
    order = [*leaders, *sorted((h for h in scores if h not in leaders), key=lambda h: -scores[h])]
    shares = [worth(rank, len(order)) for rank in range(1, len(order) + 1)]
    tied = [[i for i, o in enumerate(order) if o == h or _tied(scores, leaders, o, h)] for h in order]
    return {h: sum(shares[i] for i in same) / len(same) / sum(shares) for h, same in zip(order, tied, strict=True)}


def _tied(scores: Mapping[str, float], leaders: Sequence[str], one: str, other: str) -> bool:
    return one not in leaders and other not in leaders and scores[one] == scores[other]


def geometric(rank: int, places: int) -> float:
    return 0.3 ** (rank - 1)


def spread(rank: int, places: int) -> float:
    return 8 ** -((rank - 1) / (places - 1)) if places > 1 else 1.0


def type_scores(given: Any) -> Any:
    t, type_weight = played(given), SPEC.type_weight[TournamentType(given["tournament_type"])]
    return {"scores": points(t, type_weight), "weights": weights(t, type_weight, GOD), "winner": t.winner}


def places_by_9(given: Any, recorded: Any) -> Fixed:
    """Points as recorded; a dethroned champion second, ties by their mean, a lone winner has it all."""
    due = due_weights(recorded["scores"], played(given).leaders, geometric)
    return Fixed("§9", {**recorded, "weights": due})


def legacy_scores(given: Any) -> Any:
    t, rules = played(given), SPEC.model_copy(update={"weight_decay_rate": given["rate"]})
    return {
        "scores": points(t, given["type_weight"]),
        "weights": weights(t, given["type_weight"], rules),
        "winner": t.winner,
    }


def legacy_places_by_9(given: Any, recorded: Any) -> Fixed:
    """As before, with a spread of 8 between first and last."""
    return Fixed("§9", {**recorded, "weights": due_weights(recorded["scores"], played(given).leaders, spread)})


def _normal(recorded: Mapping[str, float]) -> dict[str, float]:
    """Raw powers, made to sum to 1 as our weights do."""
    total = sum(recorded.values())
    return {hotkey: weight / total for hotkey, weight in recorded.items()}


def scores_to_weights(given: Any) -> Any:
    """Weights of both presets from points; who has none above 0 has won nothing."""
    scores, winner = {h: s for h, s in given["scores"] if s > 0}, given["prev_winner"]
    both = [{s.hotkey: s.weight for s in standings(scores, winner, None, rules)} for rules in (GOD, SPEC)]
    return {"weights": both[0], "legacy_rate8": both[1]}


def winner_first(given: Any, recorded: Any) -> Fixed:
    """The winner is first whatever its points; ties by their mean."""
    scores = {h: s for h, s in given["scores"] if s > 0}
    leaders = [given["prev_winner"]] if given["prev_winner"] else []
    both = [due_weights(scores, leaders, worth) for worth in (geometric, spread)]
    return Fixed("§9", {"weights": both[0], "legacy_rate8": both[1]})


def both_types(given: Any) -> Any:
    return {kind: weights(played(given[kind]), 1.0, GOD) if given[kind] else {} for kind in ("image", "text")}


def both_by_9(given: Any, recorded: Any) -> Fixed:
    """As 07b, for an image and a text tournament."""
    due: dict[str, dict[str, float]] = {"image": {}, "text": {}}
    for kind in due:
        if given[kind]:
            t = played(given[kind])
            due[kind] = due_weights(due_points(t, 1.0), t.leaders, geometric)
    return Fixed("§9", due)


ADAPTERS = {
    "07a_exponential_decline_mapping": Adapter(mapping, no_minimum),
    "07b_type_scores": Adapter(
        type_scores, places_by_9, lambda o: {key: o[key] for key in ("scores", "weights", "winner")}
    ),
    "07b_legacy_type_scores_rate8": Adapter(
        legacy_scores,
        legacy_places_by_9,
        lambda o: {"scores": o["scores"], "weights": _normal(o["weights"]), "winner": o["winner"]},
    ),
    "07c_scores_to_weights": Adapter(
        scores_to_weights, winner_first, lambda o: {"weights": o["weights"], "legacy_rate8": _normal(o["legacy_rate8"])}
    ),
    "07d_weights_from_data": Adapter(both_types, both_by_9),
}
