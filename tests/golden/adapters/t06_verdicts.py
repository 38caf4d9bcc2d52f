"""06: pairs, boss rounds and reigns (RULES §7, §8)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from tests.golden.adapters.reigns import reign_after
from tests.golden.harness import BURN, Adapter, Fixed, skip
from tourney_ray.core.decisions import TaskDecided
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import TaskStatus, TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.core.scoring import Submission, rank_task
from tourney_ray.core.state import Reign
from tourney_ray.core.verdict import boss_margin, decide_boss_round, decide_boss_task, decide_pair

SPEC, GOD = Rules(), Rules.preset("god-2025-12")
NOBODY = "nobody"


def margin(given: Any) -> Any:
    rules = Rules(boss_margin_first=given["base"], boss_margin_decay=given["decay"], boss_margin_least=given["floor"])
    return boss_margin(given["consecutive_wins"], rules)


# --- the title


def holder(champion: str, winners: list[str | None]) -> str:
    """Who holds the title after tasks with these winners: all of them planned, the challenger the first other one."""
    challenger = next((w for w in winners if w not in (champion, None)), NOBODY)
    decided = [_decided(i, winner) for i, winner in enumerate(winners)]
    return decide_boss_round(champion, challenger, decided, len(winners)).advancing[0]


def majority(given: Any, recorded: Any) -> Fixed:
    """More than half of the planned tasks, here all that are listed."""
    return Fixed("§8", _majority(given["boss"], given["task_winners"]))


def _majority(champion: str, winners: list[str | None]) -> str:
    others = [w for w in winners if w not in (champion, None)]
    won = Counter(others)[others[0]] if others else 0
    return str(others[0]) if 2 * won > len(winners) else champion


def _decided(number: int, winner: str | None) -> TaskDecided:
    return TaskDecided(
        tournament_id="t",
        task_id=str(number),
        status=TaskStatus.SUCCESS,
        ranking=(),
        winner=winner,
        because="recorded",
    )


# --- tasks of a boss round


def boss_round(given: Any) -> Any:
    t, champion = boss_margin(given["consecutive_wins"], GOD), given["base_winner_hotkey"] or BURN
    winners = [task_winner(champion, given["boss_hotkey"], task, t, GOD) for task in given["tasks"]]
    return {"task_winners": winners, "threshold": t, "winner": holder(champion, [*winners])}


def task_winner(champion: str, boss: str, task: Any, t: float, rules: Rules) -> str:
    """The winner of a task of the boss round, with the first row beside the boss's as the challenger's."""
    b, challenger, c = sides(boss, task)
    metric = METRICS[TaskType(task["task_type"])]
    ranking = rank_task(metric, [Submission(champion, -1, b), Submission(challenger, 0, c)], rules)
    by_hotkey = {r.hotkey: r for r in ranking}
    return decide_boss_task(metric, by_hotkey[champion], by_hotkey[challenger], t, rules.boss_equality)[0]


def sides(boss: str, task: Any) -> tuple[float | None, str, float | None]:
    """The champion's value, the challenger and its value; None where there is no number."""
    values = {hotkey: None if value is None or math.isnan(value) else value for hotkey, value in task["rows"]}
    challenger = next((hotkey for hotkey, _ in task["rows"] if hotkey != boss), NOBODY)
    return values.get(boss), challenger, values.get(challenger)


def boss_round_by_8(given: Any, recorded: Any) -> Fixed:
    """One side invalid, or a number that is not positive; of two positive ones what was recorded is the rule."""
    t, champion = recorded["threshold"], given["base_winner_hotkey"] or BURN
    winners = [
        was if _both_positive(given["boss_hotkey"], task) else due_winner(champion, given["boss_hotkey"], task, t)
        for task, was in zip(given["tasks"], recorded["task_winners"], strict=True)
    ]
    return Fixed("§8", {"task_winners": winners, "threshold": t, "winner": _majority(champion, [*winners])})


def _both_positive(boss: str, task: Any) -> bool:
    b, _, c = sides(boss, task)
    return b is not None and c is not None and math.inf > b > 0 and math.inf > c > 0


def due_winner(champion: str, boss: str, task: Any, t: float) -> str:
    b, challenger, c = sides(boss, task)
    if c is None or not math.isfinite(c):
        return champion
    if b is None or not math.isfinite(b):
        return challenger
    wins = c > b + t * abs(b) if task["task_type"] == "GrpoTask" else c < b - t * abs(b)
    return challenger if wins else champion


def boss_round_output(output: Any) -> Any:
    """Of a recorded boss round; the champion under its own name."""
    named = [output["champion_asked"] if w == BURN else w for w in output["task_winners"]]
    winners = [output["champion_asked"] if w == BURN else w for w in output["winners"]]
    return {"task_winners": named, "threshold": output["threshold"], "winner": winners[0] if winners else None}


# --- duplicates


def boss_duplicate(given: Any) -> Any:
    losses, boss = given["losses"], "boss"
    task = {"rows": list(losses.items()), "task_type": given["task_type"]}
    return [holder(boss, [task_winner(boss, boss, task, boss_margin(given["consecutive_wins"], GOD), GOD)])]


def champion_is_no_duplicate(given: Any, recorded: Any) -> Fixed:
    """Equal losses prove nothing, the champion is never the copy, and no better is not better by the margin."""
    losses, grpo = given["losses"], given["task_type"] == "GrpoTask"
    t = max(0.03, 0.1 * 0.8 ** (given["consecutive_wins"] - 1))
    bound = losses["boss"] * (1 + t if grpo else 1 - t)
    wins = losses["opp"] >= bound if grpo else losses["opp"] <= bound
    return Fixed("§7", ["opp" if wins else "boss"])


def pairs(given: Any) -> Any:
    """Winners of knock-out pairs; of equals the first row's, who registered earlier."""
    won: list[str] = []
    for task in given["tasks"]:
        metric = METRICS[TaskType(task["task_type"])]
        submissions = [
            Submission(r["hotkey"], i, r["loss"], r.get("finetune", True)) for i, r in enumerate(task["rows"])
        ]
        won += decide_pair(rank_task(metric, submissions, GOD), metric).advancing
    return {"winners_in_task_order": won}


def equal_losses_are_no_duplicates(given: Any, recorded: Any) -> Fixed | None:
    """Pairs with equal losses: both are valid, the earlier registration advances, whatever was uploaded when."""
    if not any(len({r["loss"] for r in task["rows"]}) < len(task["rows"]) for task in given["tasks"]):
        return None
    best = [_best(task) for task in given["tasks"]]
    return Fixed("§7", {"winners_in_task_order": [hotkey for hotkey in best if hotkey is not None]})


def _best(task: Any) -> str | None:
    numbers = [r for r in task["rows"] if r["loss"] is not None and math.isfinite(r["loss"])]
    rows = [r for r in numbers if r.get("finetune", True)]
    sign = -1 if task["task_type"] == "GrpoTask" else 1
    return min(rows, key=lambda r: sign * r["loss"])["hotkey"] if rows else None


# --- reigns


def consecutive_wins(given: Any) -> Any:
    """Wins in a row of that hotkey now, and before each of the last two tournaments of the history."""
    history, kind = given["history_oldest_first"], given["tournament_type"]
    latest = range(max(0, len(history) - 2), len(history))
    before = {history[i]["id"]: _wins(given["champion"], reign_after(history[:i], kind)) for i in latest}
    return {"at_tournament": before, "now": _wins(given["champion"], reign_after(history, kind))}


def _wins(hotkey: str, reign: Reign | None) -> int:
    return reign.wins if reign and reign.champion.hotkey == hotkey else 0


def no_placeholder(given: Any, recorded: Any) -> Fixed | None:
    """Wins of the burn hotkey are the champion's own: it has those only that no champion was named for."""
    if given["champion"] != BURN:
        return None
    history, kind = given["history_oldest_first"], given["tournament_type"]
    before = {h["id"]: _streak(history[:i], kind) for i, h in enumerate(history) if i >= len(history) - 2}
    return Fixed("words", {"at_tournament": before, "now": _streak(history, kind)})


def _streak(history: Any, kind: str) -> int:
    """How many of the latest completed tournaments of the type were won under the burn hotkey without a champion."""
    done = [h for h in history if h["type"] == kind and h["status"] == "completed"]
    label = [h["winner"] == BURN and h["base"] in (None, BURN) for h in reversed(done)]
    return label.index(False) if False in label else len(label)


ADAPTERS = {
    "06a_progressive_threshold": Adapter(margin),
    "06b_boss_majority": Adapter(lambda given: holder(given["boss"], given["task_winners"]), majority),
    "06c_boss_round": Adapter(boss_round, boss_round_by_8, boss_round_output),
    "06d_task_winner_sql": skip("a task's winner is decided with it, not read back from rows"),
    "06e_consecutive_wins": Adapter(consecutive_wins, no_placeholder),
    "06f_duplicate_in_boss_round": Adapter(boss_duplicate, champion_is_no_duplicate),
    "06g_knockout_chain": Adapter(pairs, equal_losses_are_no_duplicates),
}
