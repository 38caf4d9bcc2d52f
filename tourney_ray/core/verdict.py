"""Who advances from a match, and why (RULES §3, §7, §8). Every verdict carries a reason that a miner can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tourney_ray.core.comparing import Comparison
from tourney_ray.core.events import Ranked, TaskDecided, Verdict
from tourney_ray.core.metrics import Metric
from tourney_ray.core.rules import BossEquality, Rules
from tourney_ray.core.scoring import ordinal, spell


@dataclass(frozen=True, slots=True)
class Decision:
    """Who advances, best first, the verdict of each entrant, and the match in one sentence."""

    advancing: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    because: str


def decide_group(
    ranking: Sequence[Ranked], rules: Rules, compare: Callable[[str, str], Comparison | None] = lambda one, other: None
) -> Decision:
    """The best `group_advance` valid entrants of a group's task advance, in the order of the ranking.

    `compare` says how far the first of two hotkeys is ahead of the second.
    """
    valid = [r for r in ranking if r.valid]
    advancing = tuple(r.hotkey for r in valid[: rules.group_advance])
    last = valid[len(advancing) - 1] if advancing else None
    verdicts = tuple(_group_verdict(r, r.hotkey in advancing, last, rules, compare) for r in ranking)
    because = f"the best {rules.group_advance} of {len(ranking)} advance; {len(valid)} had a valid metric"
    return Decision(advancing, verdicts, because)


def decide_pair(
    ranking: Sequence[Ranked], metric: Metric, comparison: Comparison | None = None, upset: bool = False
) -> Decision:
    """The better valid entrant of a pair advances; one valid alone does too; of none valid, nobody.

    `comparison` is of the better with the other; with `upset` their difference is a tie that the other one wins.
    """
    valid = [r for r in ranking if r.valid]
    told = _told(comparison, upset)
    side = {r.hotkey: told if r is valid[0] else _told(comparison and comparison.reversed, upset) for r in valid}
    if upset:
        valid.reverse()
    verdicts = tuple(_pair_verdict(r, valid, metric, side.get(r.hotkey, "")) for r in ranking)
    if not valid:
        return Decision((), verdicts, "neither has a valid metric: nobody advances from this pair")
    winner = valid[0]
    if len(valid) == 1:
        because = f"{winner.hotkey} has the only valid {metric.name}: {spell(winner.value)}"
    else:
        words = side[winner.hotkey]
        because = f"{winner.hotkey} by {metric.name} {spell(winner.value)} against {spell(valid[1].value)}{words}"
    return Decision((winner.hotkey,), verdicts, because)


def boss_margin(consecutive_wins: int, rules: Rules) -> float:
    """The share of the champion's metric by which a challenger must be better: max(0.03, 0.10 · 0.8^(wins − 1))."""
    return max(rules.boss_margin_least, rules.boss_margin_first * rules.boss_margin_decay ** (consecutive_wins - 1))


def decide_boss_task(
    metric: Metric,
    champion: Ranked,
    challenger: Ranked,
    margin: float,
    equality: BossEquality,
    comparison: Comparison | None = None,
    noise_is_a_tie: bool = False,
) -> tuple[str, str]:
    """Winner of one task of the boss round and the reason. Doubt goes to the champion; `equality`: whose a draw is.

    `comparison` is of the challenger with the champion.
    """
    if not challenger.valid or challenger.value is None:
        return champion.hotkey, f"the challenger is {challenger.because}; the champion keeps the task"
    if not champion.valid or champion.value is None:
        return challenger.hotkey, f"the champion is {champion.because}; the challenger's {metric.name} is valid"
    wins, bound = challenger_wins(metric, champion.value, challenger.value, margin, equality)
    relation = "beats" if wins and challenger.value != bound else "reaches" if wins else "does not beat"
    because = (
        f"the challenger's {metric.name} {spell(challenger.value)} {relation} {spell(bound)}, "
        f"the champion's {spell(champion.value)} bettered by {100 * margin:.4g} %"
    )
    because += "" if comparison is None else f"; the challenger is {comparison.words}"
    if wins and noise_is_a_tie and comparison is not None and comparison.within_noise:
        return champion.hotkey, f"{because}; a tie is the champion's"
    return (challenger if wins else champion).hotkey, because


def challenger_wins(metric: Metric, b: float, c: float, margin: float, equality: BossEquality) -> tuple[bool, float]:
    """Whether the challenger's `c` takes the task from the champion's `b`, and the bound that it is compared with.

    The bound is `b` bettered by `margin` times |b|, and `c` has to be strictly better. Where equality is the
    challenger's and both are positive, the bound is b · (1 ∓ margin), which may round otherwise, and `c` has to be no
    worse.
    """
    if equality == "challenger" and b > 0 and c > 0:
        bound = b * metric.improved(1.0, margin)
        return not metric.better(bound, c), bound
    bound = metric.improved(b, margin * abs(b))
    return metric.better(c, bound), bound


def decide_boss_round(champion: str, challenger: str, tasks: Sequence[TaskDecided], planned: int) -> Decision:
    """The challenger takes the title with more than half of the planned tasks, else the champion defends."""
    won = sum(task.winner == challenger for task in tasks)
    takes = won > planned / 2
    winner, loser = (challenger, champion) if takes else (champion, challenger)
    score = f"the challenger won {won} of {planned} tasks, {planned // 2 + 1} take the title"
    because = f"{score}: {winner} {'is the new champion' if takes else 'defends'}"
    verdicts = (
        Verdict(hotkey=winner, advances=True, value=None, because=because),
        Verdict(hotkey=loser, advances=False, value=None, because=because),
    )
    return Decision((winner,), verdicts, because)


def performance_difference(
    metric_pairs: Sequence[tuple[Metric, float | None, float | None]],
) -> float:
    """Median over the tasks with both values, (metric, champion b, challenger c), of how much better c is than b.

    (b − c)/|b| where lower is better, (c − b)/|b| where higher is; 0 for b = 0, and 0 without any such task.
    """
    differences = [
        metric.gain(champion, challenger) / abs(champion) if champion else 0.0
        for metric, champion, challenger in metric_pairs
        if champion is not None and challenger is not None
    ]
    return median(differences) if differences else 0.0


def _group_verdict(
    ranked: Ranked,
    advances: bool,
    last: Ranked | None,
    rules: Rules,
    compare: Callable[[str, str], Comparison | None],
) -> Verdict:
    because = ranked.because
    if ranked.valid and last is not None and not advances:
        because += f"; the best {rules.group_advance} advance, the {ordinal(last.place or 0)} had {spell(last.value)}"
        comparison = compare(ranked.hotkey, last.hotkey)
        because += "" if comparison is None else f": {comparison.words}"
    return Verdict(hotkey=ranked.hotkey, advances=advances, value=ranked.value, because=because)


def _told(comparison: Comparison | None, upset: bool) -> str:
    words = f"; {comparison.words}" if comparison else ""
    return f"{words}; a tie goes to the earlier registered" if upset else words


def _pair_verdict(ranked: Ranked, valid: Sequence[Ranked], metric: Metric, told: str) -> Verdict:
    if not ranked.valid:
        because = ranked.because
    elif len(valid) == 1:
        because = f"the only valid {metric.name} of the pair: {spell(ranked.value)}"
    else:
        rival = next(r for r in valid if r.hotkey != ranked.hotkey)
        because = f"{metric.name} {spell(ranked.value)} against {spell(rival.value)} of {rival.hotkey}"
        if ranked.value == rival.value:
            because += "; of equals the earlier registered advances"
        because += told
    advances = bool(valid) and valid[0].hotkey == ranked.hotkey
    return Verdict(hotkey=ranked.hotkey, advances=advances, value=ranked.value, because=because)
