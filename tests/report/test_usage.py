"""What is counted of a tournament's facts, and what is made of it: spans, spreads, prices, misfits."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from tests.builders import play
from tourney_ray.core import events as e
from tourney_ray.core.models import GpuRequirement, RoundType, TaskType, TournamentType
from tourney_ray.core.resources import get_tournament_gpu_requirement
from tourney_ray.core.rules import Rules
from tourney_ray.report.demands import Demand, demands, misfits
from tourney_ray.report.forecast import forecast, spread
from tourney_ray.report.prices import Prices, Rented, price_of
from tourney_ray.report.usage import Held, RoundKey, Usage, node_hours, usage

TEXT, IMAGE = TournamentType.TEXT, TournamentType.IMAGE
GROUP = RoundKey(TEXT, 1, RoundType.GROUP)
TODAY = date(2026, 1, 31)
BOTH = (TEXT, IMAGE)


def held(node: str, began: float, ended: float, gpus: int = 1, gpu_type: str = "H100") -> Held:
    return Held(GROUP, node, gpu_type, gpus, 5.0, began, ended)


# --- facts


def test_a_played_tournament_is_counted_as_its_state_has_it() -> None:
    played = play(12)
    found = usage((at, fact) for fact, at in played.facts)
    t = played.tournament
    by_round = {drawn.number: drawn for drawn in t.rounds}
    assert {key.number for key in found.tasks} == set(by_round)
    for key, count in found.tasks.items():
        ids = [task_id for match in by_round[key.number].matches.values() for task_id in match.tasks.values()]
        assert key.round_type is by_round[key.number].round_type
        assert count == len(ids)
        trainings = [training for task_id in ids for training in t.tasks[task_id].trainings.values()]
        assert sum(found.trainings[key].values()) == len(trainings)
    assert len(found.held) == sum(isinstance(fact, e.LeaseEnded) for fact, _ in played.facts)
    (completed,) = [at for fact, at in played.facts if isinstance(fact, e.TournamentCompleted)]
    assert found.wall_hours == {TEXT: (completed - played.facts[0][1]).total_seconds() / 3600}


def test_a_lease_that_has_not_ended_is_left_out() -> None:
    facts = [(at, fact) for fact, at in play(12).facts]
    last = max(i for i, (_, fact) in enumerate(facts) if isinstance(fact, e.LeaseEnded))
    assert len(usage(facts[:last]).held) == len(usage(facts).held) - 1


# --- nodes


def test_a_node_is_paid_until_it_has_been_idle_for_long_and_overlaps_count_once() -> None:
    used = Usage(held=[held("a", 0, 2), held("a", 1, 3), held("a", 3.2, 4), held("a", 9, 10), held("b", 1, 2)])
    assert node_hours(used, 0.25) == pytest.approx({"a": 4.25 + 1.25, "b": 1.25})


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 20)), min_size=1, max_size=20))
def test_a_node_is_there_no_longer_than_all_and_no_shorter_than_the_longest(spans: list[tuple[float, float]]) -> None:
    used = Usage(held=[held("a", began, began + length) for began, length in spans])
    hours = node_hours(used, 0.5)["a"]
    assert max(length for _, length in spans) + 0.5 <= hours + 1e-9
    assert hours <= sum(length + 0.5 for _, length in spans) + 1e-9


# --- numbers


def test_a_spread_names_numbers_that_so_many_are_not_above() -> None:
    assert spread(range(1, 21)).model_dump() == {"p50": 10, "p95": 19}
    assert spread([7.0]).model_dump() == {"p50": 7, "p95": 7}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_so_many_are_not_above_it(numbers: list[float]) -> None:
    found = spread(numbers)
    for share, bound in ((0.5, found.p50), (0.95, found.p95)):
        assert bound in numbers
        assert sum(n <= bound for n in numbers) >= share * len(numbers)


def test_a_round_that_not_every_rehearsal_has_is_told_with_its_share() -> None:
    boss = RoundKey(TEXT, 2, RoundType.BOSS)
    needs = {GpuRequirement.H100_8X: 4}
    one = Usage({GROUP: 1}, {GROUP: {GpuRequirement.H100_1X: 8}}, [held("a", 0, 2)], {TEXT: 3.0})
    other = Usage(
        {GROUP: 1, boss: 2}, {GROUP: {GpuRequirement.H100_1X: 8}, boss: needs}, [held("a", 0, 4)], {TEXT: 5.0}
    )
    expected = forecast([one, other])
    assert [(r.number, r.share) for r in expected.rounds] == [(1, 1.0), (2, 0.5)]
    assert expected.rounds[1].requirements == {GpuRequirement.H100_8X: 4}
    assert expected.trainings.model_dump() == {"p50": 8, "p95": 12}
    assert expected.gpu_hours["H100"].model_dump() == {"p50": 2, "p95": 4}
    assert expected.gpu_hours_at_limit["H100"].model_dump() == {"p50": 5, "p95": 5}
    assert expected.wall_hours[TEXT].model_dump() == {"p50": 3, "p95": 5}
    assert expected.cost is None


# --- prices


def test_gpu_hours_are_paid_by_type_and_the_head_all_the_time() -> None:
    used = Usage(held=[held("a", 0, 2, gpus=8), held("b", 0, 3, gpu_type="A100")], wall_hours={TEXT: 10.0, IMAGE: 4.0})
    prices = Prices(currency="EUR", as_of=TODAY, gpu_hour={"H100": 2.0, "A100": 1.0})
    assert price_of(used, prices, Rented()) == 8 * 2 * 2.0 + 3 * 1.0
    assert price_of(used, prices.model_copy(update={"head_hour": 0.5}), Rented()) == 35.0 + 5.0


def test_node_hours_are_paid_whole_by_instance_type() -> None:
    used = Usage(held=[held("a", 0, 2, gpus=1)])
    prices = Prices(currency="EUR", as_of=TODAY, node_hour={"big": 8.0})
    rented = Rented({"a": "big"}, idle_hours=0.5)
    assert price_of(used, prices, rented) == (2 + 0.5) * 8
    cost = forecast([used], prices, rented).cost
    assert cost
    assert cost.p50 == 20
    assert (cost.per, cost.currency, cost.as_of, cost.with_head) == ("node-hour", "EUR", "2026-01-31", False)


def test_what_has_no_price_is_named() -> None:
    per_gpu = Prices(currency="EUR", as_of=TODAY, gpu_hour={"H100": 2.0})
    assert per_gpu.lacking(["H100", "A100", "A100"], ["big"]) == ["A100"]
    per_node = Prices(currency="EUR", as_of=TODAY, node_hour={"big": 2.0})
    assert per_node.lacking(["H100"], ["big", "", "small"]) == ["", "small"]


@pytest.mark.parametrize("tables", [{}, {"gpu_hour": {"H100": 1.0}, "node_hour": {"big": 1.0}}])
def test_prices_are_of_one_kind(tables: dict[str, dict[str, float]]) -> None:
    with pytest.raises(ValidationError, match="one of both"):
        Prices.model_validate({"currency": "EUR", "as_of": TODAY, **tables})


# --- what the rules may draw


@given(st.floats(0, 1), st.sampled_from(list(TaskType)))
def test_whatever_size_is_drawn_its_need_was_foretold(u: float, task_type: TaskType) -> None:
    rules = Rules(boss_big_model_share=0.5)
    foretold = demands(BOTH, BOTH, rules)
    ranges = {RoundType.KNOCKOUT: rules.knockout_model_range_b, RoundType.BOSS: rules.boss_model_range_b}
    for round_type, (low, high) in ranges.items():
        params = int((low + u * (high - low)) * 1e9)
        if task_type is not TaskType.CHAT:
            needs = get_tournament_gpu_requirement(task_type, params, rules)
            assert (round_type, task_type, needs) in {(d.round_type, d.task_type, d.requirement) for d in foretold}


def test_known_models_are_all_that_can_be_drawn() -> None:
    found = demands([TEXT], [TEXT], Rules(), [10**9, 14 * 10**9])
    assert {(d.round_type, d.requirement) for d in found if d.task_type is TaskType.INSTRUCT} == {
        (RoundType.GROUP, GpuRequirement.H100_1X),
        (RoundType.KNOCKOUT, GpuRequirement.H100_1X),
        (RoundType.BOSS, GpuRequirement.H100_4X),
    }
    assert all(d.smallest == d.largest for d in found)


def test_where_nobody_defends_there_is_no_boss_round() -> None:
    assert any(d.round_type is RoundType.BOSS for d in demands(BOTH, [IMAGE], Rules()))
    assert not any(d.round_type is RoundType.BOSS for d in demands(BOTH, [], Rules()))


def test_what_no_node_holds_is_said_with_task_size_and_need() -> None:
    wanted = demands(BOTH, BOTH, Rules())
    assert misfits(wanted, [{"H100": 8}, {"A100": 1}]) == []
    said = [str(demand) for demand in misfits(wanted, [{"H100": 4}, {"H100": 4}])]
    assert "boss GrpoTask, models of 20 to 71 B: 8×H100 on one node" in said
    assert "knockout ImageTask: 1×A100 on one node" in said
    assert not any("2×" in line or "4×" in line for line in said)
    one = Demand(RoundType.BOSS, TaskType.DPO, GpuRequirement.H100_8X, 14 * 10**9, 14 * 10**9)
    assert str(one) == "boss DpoTask, models of 14 B: 8×H100 on one node"
