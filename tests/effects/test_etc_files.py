"""The files of /etc that every container of a node is given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tourney_ray.effects.engine.etc_files import ETC_FILES, write_etc
from tourney_ray.errors import StorageUnavailable


def test_many_at_once_write_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(write_etc, [tmp_path / "etc"] * 32))
    assert set(folders) == {tmp_path / "etc"}
    assert {file.name: file.read_text() for file in folders[0].iterdir()} == ETC_FILES
    assert {file.stat().st_mode & 0o777 for file in folders[0].iterdir()} == {0o644}


def test_one_that_is_right_is_left_alone_and_one_that_is_not_is_replaced(tmp_path: Path) -> None:
    write_etc(tmp_path)
    kept = (tmp_path / "hosts").stat().st_ino
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.1")
    write_etc(tmp_path)
    assert (tmp_path / "hosts").stat().st_ino == kept
    assert (tmp_path / "resolv.conf").read_text() == ""


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        write_etc(tmp_path / "file" / "etc")
