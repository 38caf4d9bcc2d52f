"""Whatever happened to a journal, its reader says so in one line."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import Played, credit, entries, play
from tourney_ray.core.chain import Entry, chain
from tourney_ray.core.replay import follow, read_fact
from tourney_ray.core.state import State
from tourney_ray.errors import AuditDifference, ConfigError, NotAllowed, NotFound, UserError
from tourney_ray.report.audit import DECISIONS, audit
from tourney_ray.store.journal import Journal
from tourney_ray.store.second_copy import entry_line
from tourney_ray.store.sources import open_source, read_entries

PLAYED = play(8)
LINES = [entry_line(entry) for entry in entries(PLAYED.facts)]
WHOLE = b"".join(LINES)

Spoil = Callable[[st.DataObject], bytes]


def truncated(data: st.DataObject) -> bytes:
    """Cut anywhere but between two lines."""
    bounds, place = set(), 0
    for line in LINES:
        place += len(line)
        bounds.add(place)
    cut = data.draw(st.integers(1, len(WHOLE) - 1).filter(lambda n: n not in bounds))
    return WHOLE[:cut]


def flipped(data: st.DataObject) -> bytes:
    place, bit = data.draw(st.integers(0, len(WHOLE) - 1)), data.draw(st.integers(0, 7))
    return WHOLE[:place] + bytes([WHOLE[place] ^ (1 << bit)]) + WHOLE[place + 1 :]


def reordered(data: st.DataObject) -> bytes:
    one, other = sorted(data.draw(st.sets(st.integers(0, len(LINES) - 1), min_size=2, max_size=2)))
    lines = [*LINES]
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def without_one(data: st.DataObject) -> bytes:
    gone = data.draw(st.integers(0, len(LINES) - 2))
    return b"".join(LINES[:gone] + LINES[gone + 1 :])


def repeated(data: st.DataObject) -> bytes:
    twice = data.draw(st.integers(0, len(LINES) - 1))
    return b"".join([*LINES[: twice + 1], *LINES[twice:]])


def forged(data: st.DataObject) -> bytes:
    """A fact put in somewhere, chained on, its followers left as they are."""
    place = data.draw(st.integers(1, len(LINES) - 2))  # without a follower it would be an honest journal's end
    before = Entry.model_validate_json(LINES[place - 1])
    fake = chain(before, credit("forger"), before.at)
    return b"".join([*LINES[:place], entry_line(fake), *LINES[data.draw(st.sampled_from([place, place + 1])) :]])


def forged_to_the_end(data: st.DataObject) -> bytes:
    """A decision changed by somebody who hashes everything after it anew."""
    reasoned = [
        i for i, (fact, _) in enumerate(PLAYED.facts) if isinstance(fact, DECISIONS) and "because" in fact.model_dump()
    ]
    place = data.draw(st.sampled_from(reasoned))
    fact, at = PLAYED.facts[place]
    fake = fact.model_copy(update={"because": "bribed"})
    return b"".join(map(entry_line, entries([*PLAYED.facts[:place], (fake, at), *PLAYED.facts[place + 1 :]])))


@pytest.mark.parametrize(
    "spoil", [truncated, flipped, reordered, without_one, repeated, forged, forged_to_the_end], ids=lambda f: f.__name__
)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_spoiled_copy_is_found(spoil: Spoil, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        path.write_bytes(spoil(data))
        with pytest.raises(UserError) as caught:
            audit(read_entries(path))
    assert "\n" not in caught.value.message


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_rubbish_is_one_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        path.write_bytes(content)
        if not content:
            assert list(read_entries(path)) == []
            return
        with pytest.raises(AuditDifference) as caught:
            list(read_entries(path))
    assert "\n" not in caught.value.message


def test_the_whole_copy_reads_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(WHOLE)
    source = open_source(tmp_path / "journal.jsonl")
    assert (list(source.entries), source.note, source.growing) == (entries(PLAYED.facts), "", False)


def test_of_a_folder_the_database_is_read(folder: Path, played: Played) -> None:
    (folder / "journal.jsonl").write_text("ignored")
    source = open_source(folder)
    assert source.note == ""
    assert list(source.entries) == entries(played.facts)
    assert list(read_entries(folder / "journal.duckdb")) == entries(played.facts)


def test_without_its_database_the_copy_is_read(folder: Path, played: Played) -> None:
    (folder / "journal.duckdb").unlink()
    source = open_source(folder)
    assert "journal.duckdb is not there: its second copy journal.jsonl was read" in source.note
    assert list(source.entries) == entries(played.facts)


def test_while_a_driver_holds_it_the_copy_is_read_to_its_last_whole_line(folder: Path, played: Played) -> None:
    journal = Journal.open(folder)
    with (folder / "journal.jsonl").open("ab") as copy:
        copy.write(b'{"seq":')
    for path in (folder, folder / "journal.duckdb"):
        source = open_source(path)
        assert "in use by" in source.note
        assert "second copy journal.jsonl was read" in source.note
        assert source.growing
        assert list(source.entries) == entries(played.facts)
    journal.close()


def test_without_a_copy_a_held_database_is_refused(folder: Path) -> None:
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
