"""The numbers of a tournament: the published ones are there, impossible ones are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from tourney_ray.core.models import TaskOrigin, TaskType, TournamentType
from tourney_ray.core.presets import PRESETS
from tourney_ray.core.rules import OVERVIEW_NAMES, HoursBand, Rules, overview_number

TEXT, IMAGE = TournamentType.TEXT, TournamentType.IMAGE
JUNE = datetime(2025, 6, 1, tzinfo=UTC)

PUBLISHED = {
    "TOURNAMENT_INTERVAL_HOURS": 72,
    "MIN_MINERS_FOR_TOURN": 8,
    "TOURNAMENT_DPO_GPU_MULTIPLIER": 3,
    "TOURNAMENT_GRPO_GPU_MULTIPLIER": 2,
    "TOURNAMENT_GPU_THRESHOLD_FOR_2X_H100": 4,
    "TOURNAMENT_GPU_THRESHOLD_FOR_4X_H100": 12,
    "TOURNAMENT_GPU_THRESHOLD_FOR_8X_H100": 40,
    "MAX_TRAINING_ATTEMPTS": 2,
    "DEFAULT_TRAINING_CONTAINER_MEM_LIMIT": "24g",
    "DEFAULT_TRAINING_CONTAINER_NANO_CPUS": 8_000_000_000,
    "TOURNAMENT_TEXT_WEIGHT": 0.15,
    "TOURNAMENT_IMAGE_WEIGHT": 0.10,
    "TOURNAMENT_WEIGHT_DECAY_RATE": 8,
}


@pytest.mark.parametrize(("name", "value"), PUBLISHED.items())
def test_the_spec_answers_to_the_published_names(name: str, value: float | str):
    assert overview_number(Rules(), name) == value


def test_every_overview_name_is_published_and_follows_the_rules():
    assert set(OVERVIEW_NAMES) == set(PUBLISHED) - {"TOURNAMENT_TEXT_WEIGHT", "TOURNAMENT_IMAGE_WEIGHT"}
    assert overview_number(Rules(min_miners=3), "MIN_MINERS_FOR_TOURN") == 3


def test_a_name_that_is_not_published_is_a_key_error():
    with pytest.raises(KeyError, match="TOURNAMENT_LUCK"):
        overview_number(Rules(), "TOURNAMENT_LUCK")


def test_fees_and_boss_tasks_of_the_spec():
    rules = Rules()
    assert rules.fee_rao == {TEXT: 200_000_000, IMAGE: 150_000_000}
    assert sorted(rules.boss_tasks) == sorted([TaskType.INSTRUCT, TaskType.DPO, TaskType.GRPO] * 2)
    assert rules.image_boss_tasks == 6


def test_presets_are_told_by_name():
    assert Rules.preset("spec") == Rules()
    god = Rules.preset("god-2025-12")
    assert (god.knockout_at_most, god.group_size, god.group_size_least, god.group_advance) == (14, 32, 20, 8)
    assert (god.champion_evens_rounds, god.boss_equality, god.boss_big_model_share) == (True, "challenger", 0.2)
    assert (god.weight_mapping, god.weight_decay_base) == ("geometric", 0.3)
    with pytest.raises(ValueError, match="there is no preset 'best': the presets are spec, god-2025-12"):
        Rules.preset("best")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_differs_from_the_spec_where_it_says_so_and_survives_json(name: str):
    rules = Rules.preset(name)
    assert set(PRESETS[name]) >= {f for f in Rules.model_fields if getattr(rules, f) != getattr(Rules(), f)}
    assert Rules.model_validate_json(rules.model_dump_json()) == rules


def test_rules_survive_json_and_are_frozen():
    rules = Rules(hours_scale=0.25, history_from=JUNE, knockout_task_shares={TaskType.INSTRUCT: 1.0})
    assert Rules.model_validate_json(rules.model_dump_json()) == rules
    with pytest.raises(ValidationError, match="frozen"):
        rules.min_miners = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_unknown_keys_are_refused_by_name():
    with pytest.raises(ValidationError, match=r"min_miner\n.*Extra inputs are not permitted"):
        Rules.model_validate({"min_miner": 3})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        HoursBand.model_validate({"rows": 1, "hours": (1, 2), "minutes": 3})


def test_rules_at_the_very_edge_are_possible():
    shares = {TEXT: 0.25, IMAGE: 0.75}
    edge = Rules(
        image_hours=(2, 2), boss_model_range_b=(70.0, 70.0), type_weight=shares, emission_cap=shares, group_advance=8
    )
    assert edge.emission_cap == edge.type_weight


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"knockout_task_shares": {TaskType.DPO: 0.5}}, "knockout_task_shares sum to 0.5, they must sum to 1"),
    ({"knockout_task_shares": {TaskType.IMAGE: 1.0}}, "are of text: ImageTask is not"),
    ({"group_task": TaskType.IMAGE}, "are of text: ImageTask is not"),
    ({"boss_tasks": (TaskType.IMAGE,)}, "are of text: ImageTask is not"),
    ({"boss_tasks": ()}, "must not be empty"),
    ({"text_hours": ()}, "must not be empty"),
    ({"gpu_threshold_for_2x_h100": 12.0}, "gpu thresholds must rise"),
    ({"gpu_threshold_for_4x_h100": 41.0}, "gpu thresholds must rise"),
    (
        {"text_hours": (HoursBand(rows=5, hours=(1, 2)), HoursBand(rows=5, hours=(1, 2)))},
        "rows of text_hours must rise",
    ),
    ({"text_hours": (HoursBand(rows=5, hours=(3, 1)),)}, "text_hours up to 5 rows must be a range of positive numbers"),
    ({"text_hours": (HoursBand(rows=5, hours=(0, 1)),)}, "text_hours up to 5 rows must be a range of positive numbers"),
    ({"image_hours": (2, 1)}, "image_hours must be a range of positive numbers, not 2 to 1"),
    ({"group_model_range_b": (0.0, 4.0)}, "group_model_range_b must be a range of positive numbers"),
    ({"knockout_model_range_b": (2.0, 1.0)}, "knockout_model_range_b must be a range"),
    ({"boss_model_range_b": (-1.0, 1.0)}, "boss_model_range_b must be a range"),
    ({"group_advance": 9}, "group_advance must not be above knockout_at_most"),
    ({"group_advance": 8, "champion_evens_rounds": True}, "group_advance must be below knockout_at_most where"),
    ({"group_size": 20, "group_size_least": 21}, "group_advance < group_size_least ≤ group_size must hold"),
    ({"group_size": 20, "group_size_least": 8}, "group_advance < group_size_least ≤ group_size must hold"),
    ({"replacement_size": (1.2, 0.8)}, "replacement_size must be a range of positive numbers"),
    ({"history_from": JUNE, "history_until": JUNE}, "history_from must be before history_until"),
    ({"history_from": JUNE.replace(tzinfo=None)}, "timezone"),
    ({"priority": {TaskOrigin.ORGANIC: 1}}, "priority needs a value for each of organic, tournament and benchmark"),
    ({"boss_equality": "nobody"}, "'champion' or 'challenger'"),
    ({"weight_decay_base": 0}, "greater than 0"),
    ({"fee_rao": {TEXT: 1}}, "need a value for each of text and image"),
    ({"type_weight": {IMAGE: 0.1}}, "need a value for each of text and image"),
    ({"emission_cap": {TEXT: 0.6}}, "need a value for each of text and image"),
    ({"emission_cap": {TEXT: 0.1, IMAGE: 0.4}}, "emission_cap must not be below type_weight"),
    ({"emission_cap": {TEXT: 0.7, IMAGE: 0.4}}, "emission_cap sums to 1.1: more than there is"),
    ({"min_miners": 1}, "greater than or equal to 2"),
    ({"fee_rao": {TEXT: -1, IMAGE: 0}}, "greater than or equal to 0"),
    ({"fee_rao": {TEXT: 0.5, IMAGE: 0}}, "fractional part"),
    ({"max_training_attempts": 0}, "greater than or equal to 1"),
    ({"hours_scale": 0}, "greater than 0"),
    ({"hours_scale": float("inf")}, "finite number"),
    ({"boss_margin_first": float("nan")}, "finite number"),
    ({"training_mem_limit": "lots"}, "match pattern"),
    ({"boss_margin_decay": 1.5}, "less than or equal to 1"),
]


@pytest.mark.parametrize(("changed", "complaint"), IMPOSSIBLE, ids=lambda x: x if isinstance(x, str) else None)
def test_impossible_rules_are_refused_with_the_reason(changed: dict[str, Any], complaint: str):
    with pytest.raises(ValidationError, match=complaint):
        Rules(**changed)
