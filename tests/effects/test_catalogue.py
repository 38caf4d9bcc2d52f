"""An operator's catalogue: what may stand in it, and the tasks that come of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.effects.builders_models import make_model
from tourney_ray.core.dataset_types import ChatDatasetType, DpoDatasetType, GrpoDatasetType, InstructDatasetType
from tourney_ray.core.models import TaskType
from tourney_ray.effects.catalogue import CatalogueTasks, load_catalogue, short_pairs
from tourney_ray.errors import ConfigError, PlatformFault

EXAMPLE = Path(__file__).parents[2] / "docs" / "catalogue.example.toml"
CATALOGUE = """
[[models]]
id = "org/small"
path = "models/small"
[[models]]
id = "org/large"
path = "models/large"

[[datasets]]
name = "questions"
path = "questions.json"
kind = "InstructTextTask"
columns = { field_instruction = "q", field_output = "a" }
[[datasets]]
name = "preferences"
path = "preferences.jsonl"
kind = "DpoTask"
[[datasets]]
name = "others"
path = "others.json"
kind = "DpoTask"
"""
ANY = (0.0, 1.0)


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """The path of a catalogue whose models have 6 and 6000 parameters."""
    make_model(tmp_path / "models" / "small", {"model.safetensors": [[2, 3]]})
    make_model(tmp_path / "models" / "large", {"model.safetensors": [[60, 100]]}, positions=10_000)
    questions = [{"q": f"q{n}", "a": n, "secret": "no"} for n in range(40)]
    pairs = [{"prompt": f"p{n}", "chosen": "c", "rejected": "r"} for n in range(30)]
    pairs += [{"prompt": "p", "chosen": "c" * 2000, "rejected": "r"}, {"prompt": "", "chosen": "c", "rejected": "r"}]
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    (tmp_path / "preferences.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (tmp_path / "others.json").write_text(json.dumps(pairs))
    (tmp_path / "catalogue.toml").write_text(CATALOGUE)
    return tmp_path / "catalogue.toml"


def tasks(catalogue: Path, root: Path) -> CatalogueTasks:
    """Its tasks, with a letter for a token."""
    return CatalogueTasks(root, load_catalogue(catalogue), lambda model: len)


def rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_bytes())


def test_a_task_has_its_model_its_rows_and_their_columns_alone(catalogue: Path, tmp_path: Path) -> None:
    data = tasks(catalogue, tmp_path / "root").prepare("t1", TaskType.INSTRUCT, b"\x01" * 32, (1e-6, 1.0))
    root = tmp_path / "root"
    assert (data.model_id, data.model_params, data.sequence_len) == ("org/large", 6000, 4096)
    assert (data.dataset_rows, data.test_rows) == (36, 4)
    assert data.dataset_type == InstructDatasetType(field_instruction="q", field_output="a")
    assert hashlib.sha256((root / data.test_path).read_bytes()).hexdigest() == data.test_sha256
    train, test = rows(root / data.dataset_path), rows(root / data.test_path)
    assert {frozenset(row) for row in train + test} == {frozenset({"q", "a"})}
    assert {row["q"] for row in train + test} == {f"q{n}" for n in range(40)}
    assert (root / data.model_path / "model.safetensors").is_file()


def test_nothing_that_trainers_see_holds_the_test_rows(catalogue: Path, tmp_path: Path) -> None:
    data = tasks(catalogue, tmp_path / "root").prepare("t1", TaskType.INSTRUCT, b"\x01" * 32, ANY)
    assert {data.dataset_path.split("/")[0], data.model_path.split("/")[0]}.isdisjoint({data.test_path.split("/")[0]})
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["datasets", "models", "tests"]


def test_the_seed_draws_model_data_and_split(catalogue: Path, tmp_path: Path) -> None:
    source = tasks(catalogue, tmp_path / "root")
    made = [source.prepare("t", TaskType.DPO, bytes([seed]) * 32, ANY) for seed in range(12)]
    assert {data.model_id for data in made} == {"org/small", "org/large"}
    assert len({data.test_sha256 for data in made}) == 12
    again = tasks(catalogue, tmp_path / "again").prepare("t", TaskType.DPO, bytes([3]) * 32, ANY)
    assert again == made[3]


def test_pairs_that_are_too_long_or_empty_make_no_rows(catalogue: Path, tmp_path: Path) -> None:
    data = tasks(catalogue, tmp_path / "root").prepare("t", TaskType.DPO, b"\x02" * 32, ANY)
    assert data.dataset_rows + data.test_rows == 30


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "kept"),
    [(100, 923, 1, True), (100, 924, 1, False), (100, 1, 924, False), (5000, 511, 1, True), (5000, 512, 1, False)],
)
def test_a_pair_has_1024_tokens_of_which_the_prompt_takes_512(
    prompt: int, chosen: int, rejected: int, kept: bool
) -> None:
    row = {"prompt": "p" * prompt, "chosen": "c" * chosen, "rejected": "r" * rejected}
    assert short_pairs([row], DpoDatasetType(), len) == ([row] if kept else [])


def test_what_is_not_there_is_lacking(catalogue: Path, tmp_path: Path) -> None:
    source = tasks(catalogue, tmp_path / "root")
    assert source.lacking(TaskType.DPO, ANY) == ""
    assert source.lacking(TaskType.GRPO, ANY) == "a data set of kind GrpoTask"
    assert "org/small 6e-09" in source.lacking(TaskType.DPO, (1.0, 2.0))
    with pytest.raises(PlatformFault, match="task t: the catalogue lacks a data set of kind GrpoTask"):
        source.prepare("t", TaskType.GRPO, b"", ANY)


def test_a_data_set_with_other_columns_is_named(catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "questions.json").write_text(json.dumps([{"q": "x"}] * 20))
    with pytest.raises(ConfigError, match="row 1 of questions has no column 'a'"):
        tasks(catalogue, tmp_path / "root").prepare("t", TaskType.INSTRUCT, b"", ANY)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[[models]]", "[[modells]]", "models: Field required"),
        ("org/large", "org/small", "document: org/small is there twice"),
        ('"others"', '"questions"', "document: questions is there twice"),
        ("org/large", "../up", "models.1.id"),
        ("InstructTextTask", "ImageTask", "datasets.0: a data set needs a kind, one of InstructTextTask"),
        ("field_output", "output_field", "columns of 'questions': output_field: Extra inputs"),
        ('kind = "DpoTask"', 'kind = "GrpoTask"', "columns of 'preferences': reward_functions: Field required"),
        ("others.json", "gone.json", "there is no data set at .*gone.json"),
        ("[[models]]", "[[models]", "is not TOML"),
    ],
)
def test_a_catalogue_that_is_wrong_is_refused_in_a_line(catalogue: Path, old: str, new: str, complaint: str) -> None:
    catalogue.write_text(CATALOGUE.replace(old, new))
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_catalogue(catalogue)
    assert "\n" not in caught.value.message


def test_a_catalogue_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_catalogue(tmp_path / "gone.toml")


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_model_without_a_file_is_refused_at_once(catalogue: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "models" / "small" / name).unlink()
    with pytest.raises(ConfigError, match="small"):
        tasks(catalogue, tmp_path / "root")


def test_the_example_describes_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tourney_ray.effects.catalogue.data_files", lambda path: [path])
    kinds = {data.kind: type(data.columns) for data in load_catalogue(EXAMPLE).datasets}
    assert kinds == {
        TaskType.INSTRUCT: InstructDatasetType,
        TaskType.CHAT: ChatDatasetType,
        TaskType.DPO: DpoDatasetType,
        TaskType.GRPO: GrpoDatasetType,
    }
