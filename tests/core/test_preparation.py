"""How the task of a slot comes about: from the history, as a replacement, or new (RULES §4, §8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import SECRET_SEED, Played, Stage, miners, offer, play
from tests.core.arena import Arena, by_number
from tourney_ray.core.commands import PrepareTask
from tourney_ray.core.history import PastTask
from tourney_ray.core.ids import TaskPlace, task_id
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import RoundType, TaskOrigin, TaskStatus, TaskType, TournamentType
from tourney_ray.core.preparation import historical_task, past_tasks, prepared_from_history, task_request
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import Task, Tournament
from tourney_ray.core.verdict import performance_difference

ONE_KIND = Rules(min_miners=7, knockout_task_shares={TaskType.INSTRUCT: 1.0}, boss_tasks=(TaskType.INSTRUCT,) * 6)


def arena(rules: Rules | None = None) -> Arena:
    return Arena(miners(8), rules=rules or Rules())


def two(rules: Rules, then: Rules | None = None) -> Arena:
    """Two text tournaments, one after the other; the winner of the first defends in the second, by `then`."""
    held = arena(rules).open()
    held.run()
    held.stage.at += timedelta(hours=72)
    reign = held.stage.state.reigns[TournamentType.TEXT]
    held.champion, held.champion_wins, held.rules = reign.champion, reign.wins, then or rules
    held.open()
    held.run()
    return held


def boss_tasks(t: Tournament) -> list[Task]:
    last = t.rounds[-1]
    assert last.round_type is RoundType.BOSS
    (match,) = last.matches.values()
    return [t.tasks[match.tasks[slot]] for slot in sorted(match.tasks)]


def command(t: Tournament, slot: int = 0, preparation: int = 1, replaces: int | None = None) -> PrepareTask:
    place = TaskPlace(f"{t.tournament_id}_round_004_pair_001", slot, preparation)
    return PrepareTask(t.tournament_id, t.tournament_type, RoundType.BOSS, place, task_id(place), replaces)


def test_the_first_boss_round_has_new_tasks_only() -> None:
    held = arena(ONE_KIND).open()
    assert [task.historical for task in boss_tasks(held.run())] == [None] * 6
    ended = held.tournament.completed
    assert ended
    assert ended.history_difference is None


def test_the_next_boss_round_repeats_six_different_tasks_of_the_first_tournament() -> None:
    held = two(ONE_KIND)
    first, second = held.stage.state.tournaments.values()
    tasks = boss_tasks(second)
    originals = [first.tasks[str(task.historical)] for task in tasks]
    assert len({task.historical for task in tasks}) == 6
    assert [task.data for task in tasks] == [original.data for original in originals]
    for task, original in zip(tasks, originals, strict=True):
        assert original.decided
        values = [r.value for r in original.decided.ranking if r.valid and r.value is not None]
        assert task.best_historical == min(values)
        assert task.task_id != original.task_id


def test_the_difference_from_the_history_takes_the_best_past_metrics_for_the_champions() -> None:
    held = two(ONE_KIND)
    second = held.tournament
    assert second.completed
    _, challenger = next(iter(second.rounds[-1].matches.values())).entrants
    values = {t.task_id: {r.hotkey: r.value for r in t.decided.ranking} for t in boss_tasks(second) if t.decided}
    pairs = [(METRICS[t.task_type], t.best_historical, values[t.task_id][challenger]) for t in boss_tasks(second)]
    assert second.completed.history_difference == performance_difference(pairs)


def test_a_kind_that_the_history_does_not_have_gets_a_new_task() -> None:
    mixed = ONE_KIND.model_copy(update={"boss_tasks": (*[TaskType.INSTRUCT] * 5, TaskType.GRPO)})
    tasks = boss_tasks(two(ONE_KIND, then=mixed).tournament)
    assert [task.historical is None for task in tasks] == [False] * 5 + [True]


def test_only_decided_tasks_of_earlier_tournaments_of_the_type_are_history() -> None:
    stage = Stage()
    play(8, stage=stage, tournament_type=TournamentType.IMAGE)
    played: Played = play(8, stage=stage)
    image, text = played.state.tournaments.values()
    assert list(past_tasks(played.state, text)) == []
    later = replace(text, tournament_id="later")
    assert sorted(past.task_id for past in past_tasks(played.state, later)) == sorted(text.tasks)
    assert historical_task(played.state, replace(image, tournament_id="later"), *where(image), SECRET_SEED) is None


def where(t: Tournament, preparation: int = 1) -> tuple[RoundType, TaskPlace]:
    return RoundType.BOSS, command(t, preparation=preparation).place


def test_history_is_for_the_first_preparation_of_a_boss_task_only() -> None:
    played = play(8, rules=ONE_KIND)
    later = replace(played.tournament, tournament_id="later", rules=ONE_KIND)
    assert isinstance(historical_task(played.state, later, *where(later), SECRET_SEED), PastTask)
    assert historical_task(played.state, later, *where(later, preparation=2), SECRET_SEED) is None
    knockout = RoundType.KNOCKOUT, command(later).place
    assert historical_task(played.state, later, *knockout, SECRET_SEED) is None


def test_a_slot_does_not_depend_on_which_one_is_prepared_first() -> None:
    played = play(8, rules=ONE_KIND)
    later = replace(played.tournament, tournament_id="later", rules=ONE_KIND)
    drawn = [
        historical_task(played.state, later, RoundType.BOSS, command(later, slot).place, "ab") for slot in range(6)
    ]
    again = [
        historical_task(played.state, later, RoundType.BOSS, command(later, slot).place, "ab")
        for slot in reversed(range(6))
    ]
    assert drawn == again[::-1]


def test_a_window_of_dates_leaves_tasks_out() -> None:
    held = two(ONE_KIND.model_copy(update={"history_until": arena().stage.at}))
    assert [task.historical for task in boss_tasks(held.tournament)] == [None] * 6


def test_a_past_task_tells_its_scores_and_nothing_of_who_had_them() -> None:
    played = play(8, rules=ONE_KIND)
    later = replace(played.tournament, tournament_id="later")
    for past in past_tasks(played.state, later):
        task = played.tournament.tasks[past.task_id]
        assert task.decided
        assert (past.task_type, past.origin) == (task.task_type, TaskOrigin.TOURNAMENT)
        assert (past.created_at, past.status) == (task.prepared_at, TaskStatus.SUCCESS)
        assert past.scores == tuple(r.value for r in task.decided.ranking if r.valid)


@pytest.mark.parametrize("params", [10**8, 7 * 10**9, 7 * 10**10])
def test_a_replacement_is_asked_for_at_about_the_size_that_could_not_be_had(params: int) -> None:
    t = arena().open().tournament
    new, instead = task_request(t, command(t), "ab"), task_request(t, command(t, replaces=params), "ab")
    assert instead.model_range_b == pytest.approx((0.8 * params / 1e9, 1.2 * params / 1e9))
    assert (instead.task_type, instead.seed) == (new.task_type, new.seed)


def test_without_a_history_nothing_is_prepared_from_it() -> None:
    held = arena().open()
    assert prepared_from_history(held.stage.state, command(held.tournament), "ab") is None


def test_skill_is_by_number() -> None:
    """What the arena's metric stands on: the challenger of both tournaments is the best of the entrants."""
    held = two(ONE_KIND)
    assert held.measures is by_number
    assert held.tournament.champion == offer("m07")
