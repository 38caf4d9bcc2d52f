"""An operator's data sets, read from disk: JSON, JSON lines or Parquet, one file or a folder of shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyarrow import ArrowException

from tourney_ray.errors import ConfigError

FORMATS = ".json (a list of objects), .jsonl (an object per line) and .parquet"


def read_data_set(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of the data set at `path`; of a folder, those of its files in the order of their names.

    Raises `ConfigError` for what is not there, in another format, or not sound.
    """
    for file in data_files(path):
        try:
            rows = READERS[file.suffix](file)
        except (OSError, ValueError, RecursionError, ArrowException) as problem:
            raise ConfigError(f"the data set {file} cannot be read: {problem}", f"known are {FORMATS}") from problem
        if not all(isinstance(row, dict) for row in rows):
            raise ConfigError(f"{file} holds something else than rows", f"known are {FORMATS}")
        yield from rows


def data_files(path: Path) -> list[Path]:
    """The files of a data set, at least one; raises `ConfigError`."""
    files = sorted(file for file in path.iterdir() if not file.name.startswith(".")) if path.is_dir() else [path]
    odd = [file for file in files if file.suffix not in READERS or not file.is_file()]
    if odd or not files:
        raise ConfigError(f"there is no data set at {odd[0] if odd else path}", f"known are {FORMATS}")
    return files


def _json(file: Path) -> list[Any]:
    rows = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(rows, list):
        raise ValueError("it is not a list")
    return rows


def _json_lines(file: Path) -> list[Any]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def _parquet(file: Path) -> list[Any]:
    return pq.read_table(file).to_pylist()


READERS: dict[str, Callable[[Path], list[Any]]] = {".json": _json, ".jsonl": _json_lines, ".parquet": _parquet}
