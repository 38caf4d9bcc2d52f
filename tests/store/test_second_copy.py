"""The database and its second copy: each can be made anew from the other, and neither may contradict it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from tests.builders import START, Played, credit, entries
from tourney_ray.errors import AuditDifference, NotAllowed, StorageUnavailable
from tourney_ray.store.journal import Journal
from tourney_ray.store.second_copy import entry_line, read_copy


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_copy_that_stayed_behind_is_completed(folder: Path, opened: Callable[[Path], Journal], kept: float) -> None:
    database = folder / "journal.duckdb"
    copy = folder / "journal.jsonl"
    whole = copy.read_bytes()
    copy.write_bytes(whole[: int(kept * len(whole))])
    opened(database)
    assert copy.read_bytes() == whole


def test_a_lost_copy_is_made_anew(folder: Path, opened: Callable[[Path], Journal]) -> None:
    database = folder / "journal.duckdb"
    copy = folder / "journal.jsonl"
    whole = copy.read_bytes()
    copy.unlink()
    opened(database)
    assert copy.read_bytes() == whole


def test_a_copy_that_is_ahead_or_differs_is_refused(folder: Path) -> None:
    database = folder / "journal.duckdb"
    copy = folder / "journal.jsonl"
    whole = copy.read_bytes()
    copy.write_bytes(whole + b'{"seq"')
    with pytest.raises(NotAllowed, match="goes on after fact") as caught:
        Journal.open(database)
    assert "move the other one aside" in caught.value.hint
    copy.write_bytes(whole.replace(b"m03", b"m04", 1))
    with pytest.raises(NotAllowed, match=r"differs from the database at fact \d+ \("):
        Journal.open(database)


def test_a_copy_that_fails_is_caught_up_with(tmp_path: Path, opened: Callable[[Path], Journal]) -> None:
    journal = opened(tmp_path)
    journal.append([credit("a")], START)
    copy, aside = tmp_path / "journal.jsonl", tmp_path / "aside"
    copy.rename(aside)
    with pytest.raises(StorageUnavailable, match="the database has facts 2 to 2, but"):
        journal.append([credit("b")], START)
    assert journal.state.seq == 2
    aside.rename(copy)
    journal.append([credit("c")], START)
    assert list(read_copy(copy)) == list(journal.entries())
    copy.write_bytes(b"")
    with pytest.raises(StorageUnavailable, match="somebody cut it"):
        journal.append([credit("d")], START)


def test_a_lost_database_is_made_anew(folder: Path, opened: Callable[[Path], Journal], played: Played) -> None:
    (folder / "journal.duckdb").unlink()
    (folder / "journal.rebuilding").write_text("left by a crash")
    journal = opened(folder)
    assert journal.state == played.state
    assert list(journal.entries()) == entries(played.facts)
    assert journal.connection.execute("SELECT count(*) FROM standings").fetchone() != (0,)


def test_an_altered_copy_is_not_rebuilt_from(folder: Path) -> None:
    database = folder / "journal.duckdb"
    database.unlink()
    copy = folder / "journal.jsonl"
    copy.write_bytes(copy.read_bytes().replace(b"m03", b"m04", 1))
    with pytest.raises(AuditDifference):
        Journal.open(folder)
    assert not database.exists()


@pytest.mark.parametrize("rao", [2**63, 10**400])
def test_a_copy_with_a_number_that_no_table_can_hold_is_refused(tmp_path: Path, rao: int) -> None:
    forged = entries([(credit("a"), START), (credit("b", rao=rao), START)])
    (tmp_path / "journal.jsonl").write_bytes(b"".join(map(entry_line, forged)))
    with pytest.raises(AuditDifference, match=r"facts 1 to 2 of .*journal\.jsonl fit into no table"):
        Journal.open(tmp_path)
    assert not (tmp_path / "journal.duckdb").exists()


def test_a_database_that_lost_facts_is_refused(folder: Path) -> None:
    with duckdb.connect(folder / "journal.duckdb") as connection:
        connection.execute("DELETE FROM journal WHERE seq > 100")
    with pytest.raises(NotAllowed, match="goes on after fact 100"):
        Journal.open(folder)
