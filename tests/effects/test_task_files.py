"""The files of a task: whole, beside each other, and the model's size and context from its own headers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.effects.builders_models import make_model
from tourney_ray.core.dataset_types import DpoDatasetType
from tourney_ray.effects.task_files import count_parameters, place_model, sequence_len, write_task
from tourney_ray.effects.task_rows import Split
from tourney_ray.errors import ConfigError, StorageUnavailable


def test_parameters_of_all_shards_are_counted_from_their_headers(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", {"a.safetensors": [[3, 5], [7]], "b.safetensors": [[2, 2, 2]]})
    assert count_parameters(model) == 15 + 7 + 8


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no sound safetensors"),
        (b"\xff" * 8 + b"{}", "a header of 18446744073709551615 bytes"),
        (b"\x02" + b"\0" * 7 + b"[]", "no sound safetensors"),
        (b"\x0a" + b"\0" * 7 + b'{"a": {}} ', "no sound safetensors"),
        (b"\x0a" + b"\0" * 7 + b'{"a": 1}  ', "no sound safetensors"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=complaint) as caught:
        count_parameters(tmp_path)
    assert str(tmp_path / "model.safetensors") in caught.value.message


def test_a_folder_without_weights_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no model"):
        count_parameters(tmp_path)


@pytest.mark.parametrize(
    ("positions", "longest"), [(512, 256), (513, 257), (8191, 4096), (8192, 4096), (100_000, 4096), (None, 4096)]
)
def test_rows_are_as_long_as_the_model_can_read(tmp_path: Path, positions: int | None, longest: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": positions}))
    assert sequence_len(tmp_path) == longest


@pytest.mark.parametrize("config", ["", "[]", '{"max_position_embeddings": "many"}'])
def test_a_config_that_cannot_be_read_is_named(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        sequence_len(tmp_path)


def test_a_model_is_placed_once_following_links_and_without_hidden_files(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", {"blob": [[1]]})
    (model / "model.safetensors").symlink_to("blob")
    (model / ".cache").mkdir()
    place_model(model, tmp_path / "store" / "m")
    placed = tmp_path / "store" / "m"
    assert not (placed / "model.safetensors").is_symlink()
    assert (placed / "model.safetensors").read_bytes() == (model / "blob").read_bytes()
    assert not (placed / ".cache").exists()
    (model / "config.json").unlink()
    place_model(model, placed)
    assert (placed / "config.json").exists()
    assert [path.name for path in placed.parent.iterdir()] == ["m"]


def test_a_copy_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", {"model.safetensors": [[1]]})
    (model / "gone").symlink_to("nowhere")
    with pytest.raises(OSError, match="nowhere"):
        place_model(model, tmp_path / "store" / "m")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_disk_that_fails_is_the_platforms(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", {"model.safetensors": [[1]]})
    (tmp_path / "root").write_text("no folder")
    rows = Split([{"prompt": "a"}], [{"prompt": "b"}])
    with pytest.raises(StorageUnavailable, match="the data of task t could not be written"):
        write_task(tmp_path / "root", "t", "org/m", model, rows, DpoDatasetType())
