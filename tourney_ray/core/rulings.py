"""Decisions that are ripe in an active tournament: of tasks, of matches, of the tournament (RULES §7, §8, §9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tourney_ray.core import events as e
from tourney_ray.core.comparing import Comparison, compared
from tourney_ray.core.metrics import METRICS, Metric
from tourney_ray.core.models import Blame, Failed, RoundType, TaskStatus, TrainingStatus
from tourney_ray.core.scoring import Submission, rank_task, spell
from tourney_ray.core.state import Match, Round, Task, Tournament, Training
from tourney_ray.core.tasks import mostly_failed, slots
from tourney_ray.core.verdict import (
    Decision,
    boss_margin,
    decide_boss_round,
    decide_boss_task,
    decide_group,
    decide_pair,
    performance_difference,
)
from tourney_ray.core.weights import standings, task_points

# --- tasks


def ripe_tasks(t: Tournament, active: Round) -> Iterator[e.Fact]:
    """The decision of every task whose trainings are terminal and evaluated, or its repetition when nobody is valid."""
    for match in active.matches.values():
        for task_id in match.tasks.values():
            task = t.tasks[task_id]
            if task.done and task.decided is None:
                yield _decide_task(t, active, match, task)


def _decide_task(t: Tournament, active: Round, match: Match, task: Task) -> e.Fact:
    metric = METRICS[task.task_type]
    ranking = rank_task(metric, [submission(t, training) for training in task.trainings.values()], t.rules)
    valid = sum(r.valid for r in ranking)
    trained = any(training.status is TrainingStatus.SUCCESS for training in task.trainings.values())
    if repeated := _repeat(t, task):
        return repeated
    if not valid and trained and task.evaluation < t.rules.max_evaluations:
        again = f"nobody's {metric.name} was valid in evaluation {task.evaluation} of at most {t.rules.max_evaluations}"
        return e.EvaluationRepeated(
            tournament_id=t.tournament_id, task_id=task.task_id, number=task.evaluation + 1, because=again
        )
    winner, because = _task_winner(t, active, match, task, ranking)
    return e.TaskDecided(
        tournament_id=t.tournament_id,
        task_id=task.task_id,
        status=TaskStatus.SUCCESS if valid else TaskStatus.FAILURE,
        ranking=ranking,
        winner=winner,
        because=because,
    )


def _repeat(t: Tournament, task: Task) -> e.TaskRepeated | None:
    """The whole task once more, when the platform ended most of its trainings and that has not been tried yet."""
    failed = sum(training.failed_by not in (None, Blame.MINER) for training in task.trainings.values())
    if not mostly_failed(failed, len(task.trainings), t.rules) or task.run > t.rules.max_repetitions:
        return None
    because = f"the platform ended {failed} of {len(task.trainings)} trainings: all of them begin anew"
    return e.TaskRepeated(tournament_id=t.tournament_id, task_id=task.task_id, number=task.run + 1, because=because)


def submission(t: Tournament, training: Training) -> Submission:
    """What a terminal training brings to the ranking of its task."""
    rank = t.registration_rank(training.hotkey)
    last = training.attempt
    if training.evaluated is None:
        reason = last.outcome.reason if last and isinstance(last.outcome, Failed) else "no checkpoint"
        reason = reason if training.failed_by is Blame.MINER else training.trouble
        return Submission(training.hotkey, rank, None, refused=f"training failed: {reason}")
    result = training.evaluated
    return Submission(training.hotkey, rank, result.value, result.fine_tuned, result.digest, result.refused)


def _task_winner(
    t: Tournament, active: Round, match: Match, task: Task, ranking: Sequence[e.Ranked]
) -> tuple[str | None, str]:
    metric = METRICS[task.task_type]
    by_hotkey = {r.hotkey: r for r in ranking}
    if active.round_type is RoundType.BOSS:
        champion, challenger = (by_hotkey[h] for h in match.entrants)
        margin = boss_margin(t.champion_wins, t.rules)
        comparison = comparison_of(t, task, challenger.hotkey, champion.hotkey)
        rules = t.rules
        return decide_boss_task(
            metric, champion, challenger, margin, rules.boss_equality, comparison, rules.noise_is_a_tie
        )
    best = ranking[0]
    if not best.valid:
        return None, "nobody has a valid metric"
    if active.round_type is RoundType.KNOCKOUT and _is_upset(t, task, ranking):
        return ranking[1].hotkey, f"{ranking[1].hotkey} registered earlier, and the difference is within noise"
    return best.hotkey, f"{best.hotkey} has the best {metric.name}, {spell(best.value)}"


def comparison_of(t: Tournament, task: Task, one: str, other: str) -> Comparison | None:
    """How far `one` is ahead of `other` in a task; None where their rows cannot be paired."""
    first, second = (task.trainings[hotkey].evaluated for hotkey in (one, other))
    if first is None or second is None:
        return None
    seed = f"{t.seed}|{task.task_id}|{one}|{other}"
    return compared(METRICS[task.task_type], task.task_type, first.per_row, second.per_row, seed)


def _is_upset(t: Tournament, task: Task, ranking: Sequence[e.Ranked]) -> bool:
    """Whether the second of a pair has its task by the rule that noise is a tie, having registered earlier."""
    if not t.rules.noise_is_a_tie or not all(r.valid for r in ranking):
        return False
    best, second = (r.hotkey for r in ranking)
    comparison = comparison_of(t, task, best, second)
    earlier = t.registration_rank(second) < t.registration_rank(best)
    return earlier and comparison is not None and comparison.within_noise


# --- matches


def ripe_matches(t: Tournament, active: Round) -> Iterator[e.Fact]:
    """The verdicts of every match whose tasks are all decided."""
    for match in active.matches.values():
        if match.decided:
            continue
        decided = [d for task_id in match.tasks.values() if (d := t.tasks[task_id].decided)]
        if len(decided) == len(match.tasks):
            decision = _decide_match(t, active, match, decided)
            yield e.MatchDecided(
                tournament_id=t.tournament_id,
                match_id=match.match_id,
                advancing=decision.advancing,
                verdicts=decision.verdicts,
                because=decision.because,
            )


def _decide_match(t: Tournament, active: Round, match: Match, decided: Sequence[e.TaskDecided]) -> Decision:
    if active.round_type is RoundType.BOSS:
        champion, challenger = match.entrants
        return decide_boss_round(champion, challenger, decided, slots(t.tournament_type, RoundType.BOSS, t.rules))
    task, ranking = t.tasks[decided[0].task_id], decided[0].ranking
    if active.round_type is RoundType.GROUP:
        return decide_group(ranking, t.rules, lambda one, other: comparison_of(t, task, one, other))
    valid = [r.hotkey for r in ranking if r.valid]
    comparison = comparison_of(t, task, valid[0], valid[1]) if len(valid) > 1 else None
    upset = bool(valid) and decided[0].winner != valid[0]
    return decide_pair(ranking, METRICS[task.task_type], comparison, upset)


# --- the end


def complete_after_boss_round(t: Tournament, boss: Round) -> e.TournamentCompleted:
    """The end of a tournament whose boss round is decided."""
    (match,) = boss.matches.values()
    champion, challenger = match.entrants
    winner = boss.advancing[0]
    tasks = [t.tasks[i] for i in match.tasks.values()]
    difference = performance_difference([_boss_values(task, champion, challenger) for task in tasks])
    because = match.decided.because if match.decided else ""
    ended = complete(t, winner, "defended" if winner == champion else "won", difference, because)
    return ended.model_copy(update={"history_difference": _against_history(tasks, champion, challenger)})


def _against_history(tasks: Sequence[Task], champion: str, challenger: str) -> float | None:
    """The challenger's performance difference from the best past metrics (RULES §8); None without past tasks."""
    past = [task for task in tasks if task.best_historical is not None]
    values = [(task.best_historical, *_boss_values(task, champion, challenger)) for task in past]
    return performance_difference([(metric, best, c) for best, metric, _, c in values]) if past else None


def _boss_values(task: Task, champion: str, challenger: str) -> tuple[Metric, float | None, float | None]:
    ranking = task.decided.ranking if task.decided else ()
    values = {r.hotkey: r.value for r in ranking if r.valid}
    return METRICS[task.task_type], values.get(champion), values.get(challenger)


def complete(
    t: Tournament, winner: str | None, title: e.Title, difference: float, because: str
) -> e.TournamentCompleted:
    """The end of a tournament, with the standings of all who earned any points."""
    champion = t.champion.hotkey if t.champion else None
    wins = [(r.number, _winner(t, i)) for r in t.rounds for m in r.matches.values() for i in m.tasks.values()]
    points = task_points(wins, t.rules.type_weight[t.tournament_type], {h for h in (champion, winner) if h is not None})
    dethroned = champion if winner != champion else None
    return e.TournamentCompleted(
        tournament_id=t.tournament_id,
        winner=winner,
        title=title,
        performance_difference=difference,
        standings=standings(points, winner, dethroned, t.rules),
        because=because,
    )


def _winner(t: Tournament, task_id: str) -> str | None:
    decided = t.tasks[task_id].decided
    return decided.winner if decided else None
