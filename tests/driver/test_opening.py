"""After a failure the driver goes on with the journal that it had, and with no other."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.builders import START, credit
from tourney_ray.driver.opening import open_again
from tourney_ray.errors import StorageUnavailable
from tourney_ray.store.journal import Journal


def written(folder: Path, *names: str) -> Journal:
    journal = Journal.open(folder)
    for name in names:
        journal.append([credit(name)], START)
    journal.close()
    return journal


def test_the_journal_that_was_there_is_opened_with_what_came_later_though_its_database_is_gone(tmp_path: Path) -> None:
    known = written(tmp_path, "a").last
    written(tmp_path, "b")
    (tmp_path / "journal.duckdb").unlink()
    with closing(open_again(tmp_path / "journal.duckdb", known)) as journal:
        assert journal.state.seq == 2


def test_before_anything_was_recorded_any_journal_will_do(tmp_path: Path) -> None:
    with closing(open_again(tmp_path / "state" / "journal.duckdb", None)) as journal:
        assert journal.state.seq == 0


def test_no_journal_is_made_where_one_was(tmp_path: Path) -> None:
    known = written(tmp_path / "state", "a").last
    with pytest.raises(StorageUnavailable, match="is not there any more"):
        open_again(tmp_path / "elsewhere" / "journal.duckdb", known)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("names", [(), ("b",), ("b", "a")])
def test_another_journal_is_left_alone(tmp_path: Path, names: tuple[str, ...]) -> None:
    known = written(tmp_path / "state", "a").last
    written(tmp_path / "other", *names)
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="does not say any more what was recorded as fact 1"):
            open_again(tmp_path / "other" / "journal.duckdb", known)
