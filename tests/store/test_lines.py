"""The lines and the database: each can be made anew from the other, and neither may contradict it."""

from __future__ import annotations

from collections.abc import Callable
from io import FileIO
from pathlib import Path
from unittest.mock import patch

import duckdb
import pytest

from tests.builders import START, Played, credit, entries
from tourney_ray.errors import AuditDifference, JournalConflict, NotAllowed, StorageUnavailable
from tourney_ray.store import lines as lines_module, tables
from tourney_ray.store.journal import Journal
from tourney_ray.store.lines import MORE, entry_line, read_lines


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_lines_that_stayed_behind_are_completed(
    folder: Path, opened: Callable[[Path], Journal], played: Played, kept: float
) -> None:
    lines = folder / "journal.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole[: int(kept * len(whole))])
    opened(folder)
    assert list(read_lines(lines)) == entries(played.facts)


def test_lost_lines_are_made_anew(folder: Path, opened: Callable[[Path], Journal], played: Played) -> None:
    lines = folder / "journal.jsonl"
    lines.unlink()
    opened(folder)
    assert lines.read_bytes() == b"".join(map(entry_line, entries(played.facts)))


def test_lines_that_differ_are_refused(folder: Path, played: Played) -> None:
    lines = folder / "journal.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole.replace(b"m03", b"m04", 1))
    with pytest.raises(NotAllowed, match=r"differs from the database at fact \d+ \(") as caught:
        Journal.open(folder)
    assert "move the other one aside" in caught.value.hint
    lines.write_bytes(whole + b"hello\n")
    with pytest.raises(NotAllowed, match="is no entry") as caught:
        Journal.open(folder)
    assert f"cut it off after line {len(entries(played.facts))}" in caught.value.hint


def test_what_a_crash_left_of_an_append_was_never_recorded(
    folder: Path, opened: Callable[[Path], Journal], played: Played
) -> None:
    lines = folder / "journal.jsonl"
    whole = lines.read_bytes()
    late = [
        entry_line(e, more=True) for e in entries([*played.facts, *[(credit("late", number=n), START) for n in (1, 2)]])
    ]
    for left in (b"", late[-2][:9], late[-2], late[-2] + late[-1][:-1]):
        lines.write_bytes(whole + left)
        journal = opened(folder)
        assert journal.state == played.state
        assert lines.read_bytes() == whole
        journal.close()


def test_lines_that_fail_record_nothing(tmp_path: Path, opened: Callable[[Path], Journal]) -> None:
    journal = opened(tmp_path)
    journal.append([credit("a")], START)
    lines, aside = tmp_path / "journal.jsonl", tmp_path / "aside"
    lines.rename(aside)
    with pytest.raises(StorageUnavailable, match=r"facts 2 to 2 cannot be recorded: .*No such file"):
        journal.append([credit("b")], START)
    assert journal.state.seq == 1
    aside.rename(lines)
    journal.append([credit("c")], START)
    assert list(read_lines(lines)) == list(journal.entries())
    lines.write_bytes(b"")
    with pytest.raises(StorageUnavailable, match="somebody cut it"):
        journal.append([credit("d")], START)
    journal.close()
    assert opened(tmp_path).state.seq == 2


def test_what_a_write_that_fails_left_is_overwritten(tmp_path: Path, opened: Callable[[Path], Journal]) -> None:
    """Even where it cannot be taken away at once."""
    journal = opened(tmp_path)
    journal.append([credit("a")], START)
    path = tmp_path / "journal.jsonl"

    def fails(file: FileIO, text: bytes) -> None:
        file.write(text[: len(text) * 2 // 3])
        raise OSError("no space left on device")

    with (
        patch.object(lines_module, "_to_disk", fails),
        patch.object(lines_module, "_cut", side_effect=OSError("read-only")),
        pytest.raises(StorageUnavailable, match="no space left"),
    ):
        journal.append([credit("b"), credit("c")], START)
    assert b"c-b" in path.read_bytes()
    journal.append([credit("d")], START)
    assert list(read_lines(path)) == list(journal.entries())


def test_lines_that_somebody_else_wrote_are_a_conflict(tmp_path: Path, opened: Callable[[Path], Journal]) -> None:
    journal = opened(tmp_path)
    (first,) = journal.append([credit("a")], START)
    with (tmp_path / "journal.jsonl").open("ab") as lines:
        lines.write(entry_line(first))
    with pytest.raises(JournalConflict, match="the journal ends with fact 2, this writer knows 1"):
        journal.append([credit("b")], START)


def test_an_end_that_is_missing_is_told_of_lines_that_do_not_grow(tmp_path: Path) -> None:
    lines = tmp_path / "journal.jsonl"
    one, other = entries([(credit("a"), START), (credit("b"), START)])
    lines.write_bytes(entry_line(one) + entry_line(other, more=True))
    with pytest.raises(AuditDifference, match=r"line 2 of .* is the last one, but more belong to it"):
        list(read_lines(lines))
    assert list(read_lines(lines, growing=True)) == [one]


# --- the database made from them


def test_a_lost_database_is_made_anew(folder: Path, opened: Callable[[Path], Journal], played: Played) -> None:
    (folder / "journal.duckdb").unlink()
    with patch("tourney_ray.store.journal.CATCH_UP", 50):
        journal = opened(folder)
    assert journal.state == played.state
    assert list(journal.entries()) == entries(played.facts)
    assert journal.database().execute("SELECT count(*) FROM standings").fetchone() != (0,)


def test_altered_lines_make_no_database(folder: Path) -> None:
    (folder / "journal.duckdb").unlink()
    lines = folder / "journal.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b"m03", b"m04", 1))
    with pytest.raises(AuditDifference):
        Journal.open(folder)


@pytest.mark.parametrize("rao", [2**63, 10**400])
def test_lines_with_a_number_that_no_table_can_hold_are_refused(tmp_path: Path, rao: int) -> None:
    forged = entries([(credit("a"), START), (credit("b", rao=rao), START)])
    (tmp_path / "journal.jsonl").write_bytes(b"".join(map(entry_line, forged)))
    with pytest.raises(AuditDifference, match=r"facts 1 to 2 of .*journal\.jsonl do not fit into the tables: rao of"):
        Journal.open(tmp_path)


def test_a_database_that_lost_facts_but_not_their_rows_is_refused(folder: Path) -> None:
    with duckdb.connect(folder / "journal.duckdb") as connection:
        connection.execute("DELETE FROM journal WHERE seq > 100")
    with pytest.raises(NotAllowed, match=r"facts 101 to .* do not fit into the tables: .*Duplicate key") as caught:
        Journal.open(folder)
    assert "move the file and its .wal aside" in caught.value.hint


def test_a_database_that_cannot_be_caught_up_is_tried_again(folder: Path, opened: Callable[[Path], Journal]) -> None:
    (folder / "journal.duckdb").unlink()
    full = duckdb.IOException("no space left on device")
    with patch.object(tables, "write", side_effect=full), pytest.raises(StorageUnavailable, match="no space left"):
        Journal.open(folder)
    assert opened(folder).state.seq > 100


def test_lines_say_of_each_fact_whether_more_belong_to_it(folder: Path) -> None:
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert not lines[-1].endswith(MORE)
    assert sum(line.endswith(MORE) for line in lines) > 50
