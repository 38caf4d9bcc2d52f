"""What a run decided, in a form in which two runs of one seed can be compared: without ids, times and nodes."""

from __future__ import annotations

from typing import Any

from tourney_ray.core.state import State, Task, Tournament

Decided = dict[str, Any]
"""Each decision by where it stands, such as `text 1 round_002_pair_001 m003`."""


def decisions(state: State) -> Decided:
    """Champions, titles, verdicts with their metrics, standings, charges, and the attempts that each miner used up."""
    result: Decided = {}
    numbers: dict[str, int] = {}
    for t in state.tournaments.values():
        kind = t.tournament_type.value
        numbers[kind] = numbers.get(kind, 0) + 1
        result |= {f"{kind} {numbers[kind]} {where}": what for where, what in _tournament(t).items()}
    return result


def differences(faulty: Decided, faultless: Decided) -> list[str]:
    """Every decision of the run with faults that is another one than without, or is missing."""
    places = dict.fromkeys([*faultless, *faulty])
    return [
        f"{place}: {faulty.get(place)!r} with faults, {faultless.get(place)!r} without"
        for place in places
        if repr(faulty.get(place)) != repr(faultless.get(place))
    ]


def _tournament(t: Tournament) -> Decided:
    done = t.completed
    result: Decided = {"charges": {h: c.rao for h, c in t.charges.items()}, "entrants": list(t.entrants)}
    result["refunded"] = sorted(t.refunded)
    if t.cancelled:
        return result  # how far it got before is a matter of time
    if done:
        result |= {"winner": done.winner, "title": done.title, "difference": done.performance_difference}
        result["standings"] = [(s.hotkey, s.place, s.points, s.weight) for s in done.standings]
    for match in (m for r in t.rounds for m in r.matches.values()):
        short = match.match_id.removeprefix(f"{t.tournament_id}_")
        for verdict in match.decided.verdicts if match.decided else ():
            result[f"{short} {verdict.hotkey}"] = (verdict.advances, verdict.value, verdict.because)
    for task in t.tasks.values():
        result |= {f"{task.place} {where}": what for where, what in _task(task).items()}
    return result


def _task(task: Task) -> Decided:
    charged = {f"{h} charged": training.miner_failures for h, training in task.trainings.items()}
    ranking = [(r.hotkey, r.value, r.score) for r in task.decided.ranking] if task.decided else []
    return {**charged, "ranking": ranking, "hours": task.hours, "params": task.data.model_params}
