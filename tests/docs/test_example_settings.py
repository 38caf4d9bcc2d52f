"""The example file names every key there is, and loads."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from tourney_ray.config import (
    BaseContestant,
    ClusterChoice,
    Evaluation,
    Registry,
    Repositories,
    Retention,
    Sandbox,
    Settings,
    Tasks,
    load_settings,
)
from tourney_ray.evaluation.kinds import evaluated_types

EXAMPLE = Path(__file__).parents[2] / "docs" / "tournament.example.toml"


def test_it_loads_and_draws_only_what_can_be_evaluated() -> None:
    settings = load_settings(EXAMPLE)
    assert settings.state == Path("/var/lib/tourney")
    assert {*settings.rules.boss_tasks, *settings.rules.knockout_task_shares} <= evaluated_types()


def test_it_names_every_key() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    named = set(re.findall(r"^(?:# )?(\w+) = ", text, re.MULTILINE)) | set(re.findall(r"^\[(\w+)", text, re.MULTILINE))
    tables: list[type[BaseModel]] = [
        Registry,
        Repositories,
        Tasks,
        Sandbox,
        Evaluation,
        Retention,
        ClusterChoice,
        BaseContestant,
    ]
    models: list[type[BaseModel]] = [Settings, *tables]
    assert {field for model in models for field in model.model_fields} <= named
