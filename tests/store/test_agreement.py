"""What lies around a journal is compared with it, and what differs is named: file, table, row, column, both values."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.builders import START, Played, credit, entries
from tests.builders_eventful import eventful
from tourney_ray.core import events as e
from tourney_ray.errors import AuditDifference
from tourney_ray.store.agreement import check_agreement
from tourney_ray.store.journal import Journal
from tourney_ray.store.steps import replayed
from tourney_ray.store.tables import KEYS
from tourney_ray.store.tables_check import JOURNAL, due_rows, table_differences


def edit(folder: Path, *statements: str) -> Path:
    """The database of the folder, after somebody was at it."""
    with duckdb.connect(folder / "journal.duckdb") as connection:
        for sql in statements:
            connection.execute(sql)
    return folder / "journal.duckdb"


def complaint(database: Path) -> str:
    with pytest.raises(AuditDifference) as caught:
        check_agreement(database)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Played, Journal]]:
    played = eventful()
    journal = Journal.open(tmp_path_factory.mktemp("every_kind"))
    for start in range(0, len(played.facts), 25):
        chunk = played.facts[start : start + 25]
        journal.append([fact for fact, _ in chunk], chunk[-1][1])
    yield played, journal
    journal.close()


def test_what_was_written_agrees(folder: Path, every_kind: tuple[Played, Journal]) -> None:
    assert check_agreement(folder / "journal.duckdb") == []
    _, journal = every_kind
    assert list(table_differences(journal.database(), journal.entries())) == []


def test_every_column_of_every_table_is_compared(every_kind: tuple[Played, Journal]) -> None:
    """One cell of every column that a fact settles is taken away; each is missed."""
    _, journal = every_kind
    due = due_rows(replayed(journal.entries()))
    assert set(due) == {JOURNAL, *KEYS}
    taken = {
        f"table {table}: {column}"
        for table, keys in KEYS.items()
        for column in {c for row in due[table].values() for c, value in row.items() if value is not None} - set(keys)
    }
    journal.database().execute("BEGIN")
    for table, column in (cell.removeprefix("table ").split(": ") for cell in taken):
        journal.database().execute(
            f'UPDATE {table} SET "{column}" = NULL WHERE rowid = '
            f'(SELECT min(rowid) FROM {table} WHERE "{column}" IS NOT NULL)'
        )
    differences = table_differences_within(journal.database(), journal)
    journal.database().execute("ROLLBACK")
    assert {re.sub(r", row .*: (\w+) is None, the journal gives .*", r": \1", line) for line in differences} == taken
    assert len(differences) == len(taken) > 80


def table_differences_within(connection: duckdb.DuckDBPyConnection, journal: Journal) -> list[str]:
    """The differences as the transaction under way sees them, which the cursors of the check do not."""

    class Within:
        def __getattr__(self, name: str) -> Any:
            return getattr(connection, name)

        def cursor(self) -> Any:
            return self

        def close(self) -> None:
            pass

    within: Any = Within()
    return list(table_differences(within, list(journal.entries())))


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (
            "UPDATE balances SET rao = rao + 1 WHERE coldkey = 'c-m03'",
            r"table balances, row coldkey=c-m03: rao is 800000001, the journal gives 800000000",
        ),
        (
            "UPDATE standings SET weight = 1 WHERE hotkey = 'm07'",
            r"table standings, row tournament_id=tourn_\w+, hotkey=m07: weight is 1\.0, the journal gives 0\.\d+",
        ),
        (
            "UPDATE rounds SET advancing = list_reverse(advancing) WHERE number = 1",
            r"table rounds, row round_id=\S+: advancing is \['m.*, the journal gives \['m",
        ),
        (
            "UPDATE attempts SET ended_at = 'infinity' WHERE attempt_id = (SELECT min(attempt_id) FROM attempts)",
            r"table attempts, row attempt_id=.*: ended_at is beyond all times, the journal gives 2026-01-",
        ),
        (
            "UPDATE attempts SET ended_at = ended_at + INTERVAL 1 SECOND WHERE hotkey = 'm01'",
            r"table attempts, row attempt_id=.*: ended_at is 2026-\S+, the journal gives 2026-",
        ),
        (
            "UPDATE tasks SET decided_at = NULL WHERE decided_at IS NOT NULL",
            r"table tasks, row task_id=\S+: decided_at is None, the journal gives 2026-",
        ),
        (
            "UPDATE evaluations SET value = 'nan' WHERE hotkey = 'm02'",
            r"table evaluations, row task_id=\S+, hotkey=m02, number=1: value is nan, the journal gives \d",
        ),
        (
            "UPDATE tasks SET because = E'\\n\\x1b[31m' WHERE winner IS NOT NULL",
            r"table tasks, row task_id=\S+: because is \\n\\x1b\[31m, the journal gives .* … and \d+ more",
        ),
        (
            "UPDATE journal SET tournament_id = 'other' WHERE seq = 12",
            r"table journal, row seq=12: tournament_id is other, the journal gives tourn_",
        ),
        ("DELETE FROM charges WHERE hotkey = 'm01'", r"table charges, row tournament_id=\w+, hotkey=m01 is not in the"),
        ("DELETE FROM verdicts", r"table verdicts, row match_id=\S+, hotkey=\w+ is not in the database; .*; .* … and"),
        (
            "INSERT INTO charges SELECT tournament_id, 'x', coldkey, rao, charged_at, NULL, NULL FROM charges LIMIT 1",
            r"table charges, row tournament_id=\w+, hotkey=x is in the database, but no fact makes it",
        ),
        ("DROP TABLE transfers", "transfers is missing from the tables"),
        ("ALTER TABLE transfers DROP COLUMN rao", "transfers is not what the schema makes: CREATE TABLE transfers"),
        (
            "CREATE OR REPLACE VIEW weights AS SELECT tournament_id, hotkey, 1 AS weight FROM standings",
            "weights is not what the schema makes: CREATE VIEW weights",
        ),
    ],
)
def test_an_altered_table_is_found_and_named(folder: Path, sql: str, why: str) -> None:
    database = edit(folder, sql)
    with pytest.raises(AuditDifference, match=why):
        check_agreement(database)
    assert complaint(database)


def test_tables_of_ones_own_are_nobodys_business(folder: Path) -> None:
    database = edit(folder, "CREATE TABLE mine AS SELECT 1 AS n", "CREATE VIEW ours AS SELECT * FROM standings")
    assert check_agreement(database) == []


def test_an_edited_line_is_found(folder: Path, played: Played) -> None:
    copy = folder / "journal.jsonl"
    whole = copy.read_bytes()
    number = next(n for n, (fact, _) in enumerate(played.facts, start=1) if isinstance(fact, e.MatchDecided))
    lines = whole.splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b" against ", b" beats ", 1)
    copy.write_bytes(b"".join(lines))
    found = complaint(folder / "journal.duckdb")
    assert found == f"{copy} differs from the database at fact {number} (MatchDecided)"
    copy.write_bytes(whole + b"hello\n")
    assert complaint(folder / "journal.duckdb").startswith(f"line {len(played.facts) + 1} of {copy} is no entry")


def test_tables_that_stayed_behind_are_a_note(folder: Path, played: Played) -> None:
    with closing(Journal.open(folder)) as journal:
        (late,) = journal.append([credit("late")], played.facts[-1][1])
    shutil.copytree(folder, folder.parent / "written")
    with closing(Journal.open(folder)) as journal:
        journal.append([credit("later"), credit("latest")], late.at)
        ahead = (folder / "journal.jsonl").read_bytes()
    (folder.parent / "written" / "journal.jsonl").write_bytes(ahead)
    (note,) = check_agreement(folder.parent / "written" / "journal.duckdb")
    assert note.startswith(f"the tables end with fact {late.seq}, 2 before journal.jsonl: a driver that opens it adds")
    (folder.parent / "written" / "journal.jsonl").write_bytes(ahead[:-9])
    assert check_agreement(folder.parent / "written" / "journal.duckdb") == []


def test_lines_that_stayed_behind_are_a_note(folder: Path, played: Played) -> None:
    copy = folder / "journal.jsonl"
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-10])
    (note,) = check_agreement(folder / "journal.duckdb")
    assert note.startswith(f"journal.jsonl ends with fact {len(played.facts) - 1}: ")
    assert copy.read_bytes() == whole[:-10]
    copy.unlink()
    (note,) = check_agreement(folder / "journal.duckdb")
    assert note.startswith("there is no journal.jsonl beside the database")
    assert not copy.exists()


def test_an_empty_database_agrees_with_nothing_around_it(tmp_path: Path) -> None:
    duckdb.connect(tmp_path / "journal.duckdb").close()
    assert check_agreement(tmp_path / "journal.duckdb") == []


def test_the_check_takes_nothing_on_trust(folder: Path) -> None:
    database = edit(folder, "UPDATE journal SET body = replace(body, 'm03', 'm04') WHERE seq = 4")
    (folder / "journal.jsonl").unlink()
    assert complaint(database).startswith("fact 4 (TransferCredited): its hash is not that of its content")


def test_rows_that_are_due_are_those_of_the_facts() -> None:
    steps = replayed(entries([(credit("a"), START), (credit("a", number=2), START)]))
    due = due_rows(steps)
    assert due["balances"] == {("c-a",): {"coldkey": "c-a", "rao": 2 * 10**9}}
    assert due["transfers"]["t-a-1",] == {
        "transfer_id": "t-a-1",
        "coldkey": "c-a",
        "rao": 10**9,
        "credited_at": START,
    }
    assert due[JOURNAL][2,] == {"seq": 2, "tournament_id": None}
