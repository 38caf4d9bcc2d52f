"""The bracket and the standings as text, with every verdict's reason. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tourney_ray.core.events import Verdict
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import RoundType, TaskType
from tourney_ray.core.state import Match, Round, Tournament
from tourney_ray.report.lines import short

TITLES = {RoundType.GROUP: "Group stage", RoundType.KNOCKOUT: "Knock-out", RoundType.BOSS: "Boss round"}


def bracket_lines(t: Tournament) -> Iterator[str]:
    """All rounds, first to last; each match with its verdicts, a filled mark for who advances."""
    for r in t.rounds:
        yield f"{TITLES[r.round_type]} (round {r.number})"
        for match in r.matches.values():
            yield from _match_lines(t, r, match)
        yield from (f"  ● {short(hotkey)}  has a bye" for hotkey in r.byes)
        yield ""


def standing_lines(t: Tournament, emission: Mapping[str, float]) -> Iterator[str]:
    """Places, points, weights and shares of the emission, and what is burnt."""
    if t.completed is None:
        return
    yield "Standings"
    for s in t.completed.standings:
        share = emission.get(s.hotkey, 0.0)
        place = f"  {s.place:>2}. {short(s.hotkey):<16}"
        yield f"{place}  {s.points:.2f} points  weight {s.weight:.4f}  emission {share:.4f}"
    yield f"      burnt             emission {emission.get(t.rules.burn_hotkey, 0.0):.4f}"


def _match_lines(t: Tournament, r: Round, match: Match) -> Iterator[str]:
    name = match.match_id.rsplit("_", 2)
    tasks = [t.tasks[match.tasks[slot]] for slot in sorted(match.tasks)]
    kinds = ", ".join(dict.fromkeys(_kind(task.task_type) for task in tasks))
    yield f"  {name[-2]} {int(name[-1])}: {kinds or 'no task yet'}"
    if r.round_type is RoundType.BOSS:
        for task in tasks:
            if task.decided:
                yield f"    task {task.slot + 1} to {short(task.decided.winner)}: {task.decided.because}"
    verdicts = {v.hotkey: v for v in match.decided.verdicts} if match.decided else {}
    order = [v.hotkey for v in match.decided.verdicts] if match.decided else list(match.entrants)
    yield from (_entrant_line(hotkey, verdicts.get(hotkey)) for hotkey in order)


def _kind(task_type: TaskType) -> str:
    metric = METRICS[task_type]
    return f"{task_type.value} ({metric.name}, {metric.direction.value} is better)"


def _entrant_line(hotkey: str, verdict: Verdict | None) -> str:
    if verdict is None:
        return f"    ◌ {short(hotkey):<16}  not decided"
    return f"    {'●' if verdict.advances else '○'} {short(hotkey):<16}  {verdict.because}"
