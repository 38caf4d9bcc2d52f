"""The tables say what the journal says, and nothing but a replay is needed to make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders import CHAMPION, Played, leased, play
from tests.builders_eventful import eventful
from tourney_ray.core import events as e
from tourney_ray.core.models import AttemptStatus
from tourney_ray.store.journal import Journal
from tourney_ray.store.tables import KEYS

VIEWS = ("points", "weights", "leases")


def dump(journal: Journal, table: str) -> list[str]:
    """All rows of a table, sorted, with NaN equal to itself."""
    return sorted(map(repr, journal.database().sql(f"SELECT * FROM {table}").to_arrow_table().to_pylist()))


def rows(journal: Journal, sql: str) -> list[tuple[Any, ...]]:
    return journal.database().execute(sql).fetchall()


def written(folder: Path, played: Played, batch: int) -> Journal:
    journal = Journal.open(folder)
    for start in range(0, len(played.facts), batch):
        chunk = played.facts[start : start + batch]
        journal.append([fact for fact, _ in chunk], chunk[-1][1])
    return journal


def test_replaying_gives_the_same_tables(tmp_path: Path) -> None:
    """Written in few large appends, then made anew entry by entry from its lines."""
    journal = written(tmp_path, eventful(), 37)
    tables = {table: dump(journal, table) for table in (*KEYS, *VIEWS)}
    journal.close()
    (tmp_path / "journal.duckdb").rename(tmp_path / "aside")
    again = Journal.open(tmp_path)
    assert {table: dump(again, table) for table in (*KEYS, *VIEWS)} == tables
    assert all(tables[table] for table in KEYS)
    again.close()


def test_the_size_of_appends_does_not_show(tmp_path: Path) -> None:
    played = play(8)
    moment = [(fact, played.facts[-1][1]) for fact, _ in played.facts]
    at_once = Played(moment, played.state, played.tournament_id)
    one, other = written(tmp_path / "one", at_once, 5), written(tmp_path / "other", at_once, 10_000)
    assert {t: dump(one, t) for t in KEYS} == {t: dump(other, t) for t in KEYS}
    one.close()
    other.close()


@pytest.fixture(scope="module")
def eventful_journal(tmp_path_factory: pytest.TempPathFactory) -> Any:
    played = eventful()
    journal = written(tmp_path_factory.mktemp("eventful"), played, 50)
    yield played, journal
    journal.close()


def test_every_table_has_every_column_of_its_schema_filled_somewhere(
    eventful_journal: tuple[Played, Journal],
) -> None:
    _, journal = eventful_journal
    empty = {
        f"{table}.{column}"
        for table in KEYS
        for column in journal.database().sql(f"SELECT * FROM {table}").columns
        if rows(journal, f'SELECT count("{column}") FROM {table}') == [(0,)]
    }
    assert empty <= {"tournaments.history_difference"}, "NULL without a boss round on tasks of the history"


def test_the_tables_agree_with_the_state(eventful_journal: tuple[Played, Journal]) -> None:
    played, journal = eventful_journal
    state = played.state
    assert rows(journal, "SELECT tournament_id, status, entrants FROM tournaments ORDER BY created_at") == [
        (t.tournament_id, t.status.value, len(t.entrants)) for t in state.tournaments.values()
    ]
    assert dict(rows(journal, "SELECT coldkey, rao FROM balances")) == state.balances
    attempts = [
        (a.attempt_id, a.status.value, a.epoch)
        for t in state.tournaments.values()
        for task in t.tasks.values()
        for training in task.trainings.values()
        for a in training.attempts
    ]
    assert sorted(rows(journal, "SELECT attempt_id, status, epoch FROM attempts")) == sorted(attempts)
    for t in state.tournaments.values():
        order = rows(
            journal,
            f"SELECT hotkey FROM entrants WHERE tournament_id = '{t.tournament_id}' AND registered IS NOT NULL"
            " ORDER BY registered",
        )
        assert [hotkey for (hotkey,) in order] == list(t.entrants)
        assert [s.weight for s in t.completed.standings] if t.completed else t.cancelled
        assert sorted(
            rows(journal, f"SELECT hotkey, weight FROM weights WHERE tournament_id = '{t.tournament_id}'")
        ) == sorted((s.hotkey, s.weight) for s in (t.completed.standings if t.completed else ()))
        for task in t.tasks.values():
            assert task.decided or t.cancelled
            (found,) = rows(
                journal, f"SELECT status, winner, evaluation, run FROM tasks WHERE task_id = '{task.task_id}'"
            )
            status, winner = (task.decided.status.value, task.decided.winner) if task.decided else ("training", None)
            assert found == (status, winner, task.evaluation, task.run)


def test_refusals_failures_and_their_reasons_are_there(eventful_journal: tuple[Played, Journal]) -> None:
    _, journal = eventful_journal
    refused = dict(rows(journal, "SELECT hotkey, because FROM entrants WHERE status = 'refused'"))
    assert refused["m02"] == "no dockerfile"
    assert refused["m01"].startswith("the balance of c-m01 is 0 TAO")
    assert rows(journal, f"SELECT DISTINCT status FROM entrants WHERE hotkey = '{CHAMPION}'") == [("champion",)]
    blames = rows(
        journal,
        "SELECT blame, kind, reason FROM attempts WHERE hotkey = 'm04' AND blame IS NOT NULL ORDER BY started_at",
    )
    assert [blame for blame, _, _ in blames][:3] == ["platform", "miner", "platform"]
    assert rows(journal, "SELECT failures, failure FROM evaluations WHERE hotkey = 'm05' AND failure IS NOT NULL") == [
        (2, "the evaluator was killed")
    ]
    assert rows(
        journal, "SELECT DISTINCT valid, place, isnan(value) FROM rankings WHERE hotkey = 'm10' AND place IS NULL"
    ) == [(False, None, True)]
    assert rows(journal, "SELECT DISTINCT because FROM tasks WHERE prepared_at IS NULL") == [
        ("the data set has no rows",)
    ]


def test_leases_are_what_runs(tmp_path: Path) -> None:
    played = play(8)
    starts = [i for i, (fact, _) in enumerate(played.facts) if isinstance(fact, e.AttemptStarted)]
    journal = Journal.open(tmp_path)
    journal.append([fact for fact, _ in played.facts[: starts[3] + 1]], played.facts[starts[3]][1])
    held = rows(journal, "SELECT node, gpu_type, sum(gpus)::INTEGER FROM leases GROUP BY ALL")
    assert {(node, kind): gpus for node, kind, gpus in held} == leased(journal.state)
    assert rows(journal, "SELECT count(*), any_value(status) FROM attempts") == [(4, AttemptStatus.TRAINING.value)]
    journal.append([fact for fact, _ in played.facts[starts[3] + 1 :]], played.facts[-1][1])
    assert rows(journal, "SELECT count(*) FROM leases") == [(0,)]
    journal.close()
