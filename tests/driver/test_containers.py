"""What the record of a container's training says of its inputs, on a node where the operator has put none of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.builders_training import RAN, tiny_task_data, training_spec
from tourney_ray.config import Settings
from tourney_ray.driver import work
from tourney_ray.driver.containers import provenance_of_run
from tourney_ray.driver.stage import placed, task_cache
from tourney_ray.effects.provenance import model_digest

DATA = tiny_task_data(dataset_sha256=hashlib.sha256(b"[]").hexdigest())


@pytest.fixture
def far(settings: Settings, tmp_path: Path) -> Settings:
    for name, content in {f"{DATA.model_path}/weights": b"weights", DATA.dataset_path: b"[]"}.items():
        (settings.data / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.data / name).write_bytes(content)
    return settings.model_copy(update={"state": tmp_path / "far"})


def test_the_model_of_the_record_is_the_one_that_was_trained_on(settings: Settings, far: Settings) -> None:
    spec = training_spec(DATA)
    placed(far, [DATA.model_path, DATA.dataset_path], lambda paths: work.sent_data(settings, paths))
    task_cache(far).place(spec)
    expected = model_digest(settings.data / DATA.model_path)
    assert expected != model_digest(far.data / DATA.model_path)
    assert provenance_of_run(far, spec, RAN).inputs.model_sha256 == expected
