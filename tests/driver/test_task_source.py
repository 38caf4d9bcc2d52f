"""Whether a tournament's tasks can be made is known before anyone pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.driver.scripted import RULES
from tourney_ray.config import Settings, Tasks
from tourney_ray.core.models import TaskType, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.driver.task_source import check_tasks, drawn_tasks, task_source
from tourney_ray.errors import ConfigError
from tourney_ray.samples.task_data import BASE_MODEL

KINDS = {"InstructTextTask", "DpoTask", "GrpoTask"}
CATALOGUE = f"""
[[models]]
id = "tourney/tiny"
path = "{BASE_MODEL}"
[[datasets]]
name = "pairs"
path = "pairs.jsonl"
kind = "DpoTask"
"""


def test_the_spec_draws_every_kind_in_every_range() -> None:
    assert set(drawn_tasks(Rules())) == {
        (TaskType.INSTRUCT, (0.1, 4.0)),
        *((TaskType(kind), sizes) for kind in KINDS for sizes in ((0.1, 12.0), (12.0, 71.0))),
    }


def test_ranges_and_kinds_that_are_never_drawn_do_not_count() -> None:
    rules = Rules(
        knockout_task_shares={TaskType.DPO: 1.0, TaskType.GRPO: 0.0},
        boss_tasks=(TaskType.INSTRUCT,),
        boss_big_model_share=0.2,
    )
    drawn = list(drawn_tasks(rules))
    assert (TaskType.INSTRUCT, (12.0, 71.0)) in drawn
    assert (TaskType.INSTRUCT, (0.1, 12.0)) in drawn
    assert TaskType.GRPO not in {kind for kind, _ in drawn}


def small(settings: Settings, **changes: Any) -> Settings:
    """The settings with rules that ask for tiny models."""
    sizes = dict.fromkeys(("group_model_range_b", "knockout_model_range_b", "boss_model_range_b"), (0.0001, 1.0))
    return settings.model_copy(update={"rules": RULES.model_copy(update=sizes | changes)})


def test_without_a_catalogue_the_samples_have_to_do(settings: Settings) -> None:
    check_tasks(small(settings))
    with pytest.raises(ConfigError, match=r"the rules draw InstructTextTask that could not be made: the bundled samp"):
        check_tasks(settings.model_copy(update={"rules": Rules()}))


def test_image_tournaments_need_no_text(settings: Settings) -> None:
    images = settings.model_copy(update={"rules": Rules(), "types": (TournamentType.IMAGE,)})
    check_tasks(images)
    catalogue = images.tasks.model_copy(update={"catalogue": Path("catalogue.toml")})
    with pytest.raises(ConfigError, match=r"image tasks could not be made: catalogue\.toml can hold text"):
        check_tasks(images.model_copy(update={"tasks": catalogue}))


def test_a_catalogue_is_read_and_what_it_lacks_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "catalogue.toml").write_text(CATALOGUE)
    line = '{"prompt": "p%d", "chosen": "c", "rejected": "r"}'
    (tmp_path / "pairs.jsonl").write_text("\n".join(line % number for number in range(30)))
    named = small(settings).model_copy(update={"tasks": Tasks(catalogue=tmp_path / "catalogue.toml")})
    with pytest.raises(ConfigError, match=r"catalogue\.toml would need a data set of kind InstructTextTask"):
        check_tasks(named)
    changed = {"group_task": TaskType.DPO, "knockout_task_shares": {TaskType.DPO: 1.0}, "boss_tasks": (TaskType.DPO,)}
    check_tasks(small(named, **changed))
    data = task_source(named).prepare("t", TaskType.DPO, b"\x01" * 32, (0.0, 1.0))
    assert (data.model_params, data.dataset_rows, data.test_rows) == (403_680, 27, 3)
