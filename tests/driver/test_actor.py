"""The driver without Ray: it follows, waits out a broken disk, halts visibly and stops cleanly."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from tourney_ray.config import Settings
from tourney_ray.core.chain import Entry
from tourney_ray.core.commands import Announce, Command
from tourney_ray.core.draw import commitment
from tourney_ray.core.events import Fact, TournamentCreated
from tourney_ray.core.leases import Cluster
from tourney_ray.driver import actor
from tourney_ray.driver.actor import Driver
from tourney_ray.driver.loop import Outcome
from tourney_ray.errors import StorageUnavailable
from tourney_ray.store.journal import Journal


class NoRay:
    """A dispatcher that announces tournaments and does nothing else; `latest` is the one of the test's driver."""

    latest: NoRay

    def __init__(self, _settings: Settings, _state: Any, report: Any, _namespace: str) -> None:
        self.troubles: dict[str, str] = {}
        self.on_defect: Any = None
        self.demands: list[Sequence[Any]] = []
        self._report = report
        NoRay.latest = self

    def cluster(self) -> Cluster:
        return Cluster()

    def announce(self, demand: Sequence[Any]) -> None:
        self.demands.append(demand)

    def warm_up(self) -> None:
        """Nothing to warm."""

    def dispatch(self, command: Command) -> None:
        if isinstance(command, Announce):
            created = TournamentCreated(
                tournament_id="text-1",
                tournament_type=command.tournament_type,
                rules=command.rules,
                draw_commitment=commitment("11" * 32),
                secret_commitment=commitment("22" * 32),
                champion=None,
                because="tested",
            )
            self._report(Outcome(command.command_id, (created,)))


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "RayDispatcher", NoRay)
    monkeypatch.setattr(actor, "STORAGE_PAUSE_S", 0.01)


async def test_a_follower_gets_what_is_recorded_and_why_it_waits(settings: Settings) -> None:
    driver = Driver(settings)
    update = await driver.follow(0)
    assert [entry.kind for entry in update.entries] == ["TournamentCreated"]
    assert update.waits == {"text-1": "the miners are asked for their repositories"}
    assert (await driver.follow(1, wait_s=0.01)).entries == ()
    await driver.stop()


async def test_a_disk_that_fails_is_waited_out_and_nothing_is_lost(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, failures = Journal.append, [StorageUnavailable("the disk is full"), StorageUnavailable("still full")]

    def failing(journal: Journal, facts: Sequence[Fact], at: datetime) -> list[Entry]:
        if failures:
            raise failures.pop(0)
        return append(journal, facts, at)

    monkeypatch.setattr(Journal, "append", failing)
    driver = Driver(settings)
    said: set[str] = set()
    while not (update := await driver.follow(0, wait_s=5.0)).entries:
        said |= {update.waits.get("journal", "")}
    assert any("tried again every" in why for why in said)
    assert [entry.kind for entry in update.entries] == ["TournamentCreated"]
    await driver.stop()


async def test_an_unforeseen_error_of_a_command_halts_the_driver_for_all_to_see(settings: Settings) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    NoRay.latest.on_defect(KeyError("gone"))
    update = await driver.follow(1)
    assert update.halted == "KeyError: 'gone'"
    await driver.stop()


async def test_stopping_lets_go_of_the_journal_and_of_the_machines(settings: Settings) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    assert "is in use by" in await asyncio.to_thread(_opened_elsewhere, settings)
    await driver.stop()
    assert NoRay.latest.demands[-1] == ()
    assert await asyncio.to_thread(_opened_elsewhere, settings) == "opened"


def _opened_elsewhere(settings: Settings) -> str:
    """What another process gets that opens the journal."""
    code = """
import sys
from pathlib import Path
from tourney_ray.store.journal import Journal
Journal.open(Path(sys.argv[1])).close()
print("opened")
"""
    command = [sys.executable, "-c", code, str(settings.state / "journal.duckdb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr
