"""Data sets as operators keep them: three formats, one file or many."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tourney_ray.effects.dataset_files import read_data_set
from tourney_ray.errors import ConfigError

ROWS = [{"prompt": "ä", "n": 1}, {"prompt": "b", "n": None}]


def write(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n", encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_each_format_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    assert list(read_data_set(write(tmp_path / f"rows.{ending}"))) == ROWS


def test_a_folder_is_read_shard_by_shard(tmp_path: Path) -> None:
    for name in ("2.parquet", "1.jsonl", "3.json"):
        write(tmp_path / "shards" / name)
    (tmp_path / "shards" / ".hidden").write_text("x")
    assert list(read_data_set(tmp_path / "shards")) == ROWS * 3


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.json", "{}", "it is not a list"),
        ("a.json", "[", "cannot be read"),
        ("a.json", "[1]", "something else than rows"),
        ("a.json", "[" * 100_000, "cannot be read"),
        ("a.jsonl", "{}\n{", "cannot be read"),
        ("a.jsonl", "[]\n", "something else than rows"),
        ("a.parquet", "PAR1", "cannot be read"),
        ("a.csv", "a,b", "there is no data set at"),
    ],
)
def test_what_is_no_data_set_is_named(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=complaint) as caught:
        list(read_data_set(tmp_path / name))
    assert name in caught.value.message
    assert ".jsonl" in caught.value.hint


def test_nothing_and_an_empty_folder_are_no_data_sets(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(ConfigError, match="there is no data set at"):
            list(read_data_set(path))
