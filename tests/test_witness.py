"""What a test records is checked, wherever it is recorded, and also after what was recorded out of sight."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.builders import Stage
from tests.core.lies import honest
from tests.witness import Witness
from tourney_ray.core import events as e
from tourney_ray.store.journal import Journal
from tourney_ray.store.memory import MemoryJournal, MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)

pytestmark = pytest.mark.lies

Open = Callable[[], Journal | MemoryJournal]


@pytest.fixture(params=["database", "memory"])
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same journal each time."""
    store = MemoryStore()
    return (lambda: Journal.open(tmp_path)) if request.param == "database" else (lambda: MemoryJournal.open(store))


def facts() -> tuple[list[e.Fact], e.Fact]:
    """Facts as they should be, up to the first start of an attempt, and a lie that `evolve` accepts after them."""
    told = list(honest())
    i = next(i for i, fact in enumerate(told) if isinstance(fact, e.AttemptStarted))
    started = told[i]
    assert isinstance(started, e.AttemptStarted)
    where = started.model_dump(include={"tournament_id", "task_id", "hotkey", "attempt_id"})
    return told[: i + 1], e.AttemptRunning.model_validate({**where, "gpu_indices": (0, 1, 2, 3, 4, 5, 6)})


def test_a_lie_in_a_journal_is_seen(open_journal: Open) -> None:
    before, lie = facts()
    journal, witness = open_journal(), Witness()
    with witness.looking():
        journal.append(before, NOW)
        assert witness.found == []
        journal.append([lie], NOW)
    (found,) = witness.found
    assert found.startswith(f"fact {len(before) + 1} breaks invariant 1:")
    journal.close()


def test_a_lie_after_what_was_recorded_out_of_sight_is_seen(open_journal: Open) -> None:
    before, lie = facts()
    journal = open_journal()
    journal.append(before, NOW)
    journal.close()
    again, witness = open_journal(), Witness()
    with witness.looking():
        again.append([lie], NOW)
    assert len(witness.found) == 1
    again.close()


def test_a_lie_on_a_stage_is_seen() -> None:
    before, lie = facts()
    stage, witness = Stage(), Witness()
    with witness.looking():
        for fact in before:
            stage._happen(fact)
        assert witness.found == []
        stage._happen(lie)
    assert len(witness.found) == 1


def test_a_stage_with_another_past_than_its_facts_is_left_alone() -> None:
    before, lie = facts()
    past, witness = Stage(), Witness()
    for fact in before:
        past._happen(fact)
    with witness.looking():
        Stage(state=past.state)._happen(lie)
    assert witness.found == []


def test_out_of_sight_nothing_is_seen() -> None:
    before, lie = facts()
    witness, store = Witness(), MemoryStore()
    with witness.looking():
        pass
    MemoryJournal.open(store).append([*before, lie], NOW)
    assert witness.found == []
