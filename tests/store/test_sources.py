"""Whatever happened to a journal, its reader says so in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from tests.builders import Played, credit, entries, play
from tourney_ray.core.replay import follow, read_fact
from tourney_ray.core.state import State
from tourney_ray.errors import AuditDifference, ConfigError, NotAllowed, NotFound, UserError
from tourney_ray.store.journal import Journal
from tourney_ray.store.lines import entry_line
from tourney_ray.store.sources import open_source, read_entries

PLAYED = play(8)
LINES = [entry_line(entry) for entry in entries(PLAYED.facts)]
WHOLE = b"".join(LINES)


def test_whole_lines_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(WHOLE)
    source = open_source(tmp_path / "journal.jsonl")
    assert (list(source.entries), source.note, source.growing) == (entries(PLAYED.facts), "", False)


def test_of_a_folder_the_database_is_read(folder: Path, played: Played) -> None:
    (folder / "journal.jsonl").write_text("its lines are for `check_agreement`\n")
    source = open_source(folder)
    assert source.note == ""
    assert list(source.entries) == entries(played.facts)
    assert list(read_entries(folder / "journal.duckdb")) == entries(played.facts)


def test_what_a_database_lacks_is_read_from_its_lines(folder: Path, played: Played) -> None:
    """As a crash leaves them, the last append cut short."""
    with duckdb.connect(folder / "journal.duckdb") as connection:
        connection.execute("DELETE FROM journal WHERE seq > 100")
    spilled = entry_line(entries(played.facts)[-1], more=True)
    with (folder / "journal.jsonl").open("ab") as lines:
        lines.write(spilled + spilled[:99])
    for path in (folder, folder / "journal.duckdb"):
        assert list(open_source(path).entries) == entries(played.facts)


def test_without_its_database_the_lines_are_read(folder: Path, played: Played) -> None:
    (folder / "journal.duckdb").unlink()
    source = open_source(folder)
    assert "journal.duckdb is not there: journal.jsonl was read" in source.note
    assert list(source.entries) == entries(played.facts)


def test_while_a_driver_holds_it_the_lines_are_read_to_the_last_whole_append(folder: Path, played: Played) -> None:
    journal = Journal.open(folder)
    with (folder / "journal.jsonl").open("ab") as lines:
        lines.write(entry_line(entries(played.facts)[-1], more=True) + b'{"seq":')
    for path in (folder, folder / "journal.duckdb"):
        source = open_source(path)
        assert "in use by" in source.note
        assert "journal.jsonl was read" in source.note
        assert source.growing
        assert list(source.entries) == entries(played.facts)
    journal.close()


def test_without_lines_a_held_database_is_refused(folder: Path) -> None:
    journal = Journal.open(folder)
    (folder / "journal.jsonl").unlink()
    with pytest.raises(NotAllowed, match="in use by"):
        open_source(folder)
    journal.close()


def test_an_empty_database_has_no_entries(tmp_path: Path) -> None:
    duckdb.connect(tmp_path / "journal.duckdb").close()
    assert list(read_entries(tmp_path)) == []


def test_what_the_log_holds_is_read_after_a_kill(folder: Path, tmp_path: Path) -> None:
    """A database with its .wal, copied as a kill would leave it."""
    journal = Journal.open(folder)
    assert journal.last
    journal.append([credit("late", number=2)], journal.last.at)
    left = tmp_path / "left"
    left.mkdir()
    for name in ("journal.duckdb", "journal.duckdb.wal"):
        shutil.copy(folder / name, left / name)
    assert list(read_entries(left)) == list(journal.entries())
    journal.close()


def test_a_row_altered_in_the_database_is_found(folder: Path) -> None:
    with duckdb.connect(folder / "journal.duckdb") as connection:
        connection.execute("UPDATE journal SET body = replace(body, 'm03', 'm04') WHERE seq = 4")
    state, last = State(), None
    with pytest.raises(AuditDifference, match="fact 4"):  # noqa: PT012 - a reader's loop is the point
        for entry in read_entries(folder):
            state, last = follow(state, read_fact(last, entry), entry), entry
    assert state.seq == 3


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no journal at"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(NotFound, match=r"has neither journal\.duckdb nor journal\.jsonl"):
        open_source(tmp_path)
    (tmp_path / "text.duckdb").write_text("hello")
    with pytest.raises(ConfigError, match="not a DuckDB database"):
        open_source(tmp_path / "text.duckdb")
    with duckdb.connect(tmp_path / "other.duckdb") as connection:
        connection.execute("CREATE TABLE recipes (name VARCHAR)")
    with pytest.raises(ConfigError, match="but no journal"):
        list(read_entries(tmp_path / "other.duckdb"))
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read_entries(tmp_path / "folder.jsonl"))


def test_a_hostile_database_reads_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "evil.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE meta AS SELECT 1 AS schema_version")
        connection.execute(
            "CREATE VIEW journal AS SELECT 1 AS seq, now() AS recorded_at, content AS kind, content AS body,"
            " '' AS previous, '' AS hash FROM read_text('/etc/passwd')"
        )
    with pytest.raises(UserError) as caught:
        list(read_entries(path))
    assert "root:" not in caught.value.message
