"""The driver without Ray: it follows, waits out a broken disk, halts visibly and stops cleanly."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from tourney_ray.config import Settings
from tourney_ray.core.chain import Entry
from tourney_ray.core.commands import Announce, Command
from tourney_ray.core.draw import commitment
from tourney_ray.core.events import (
    Act,
    Fact,
    NodeFenced,
    NodeJoined,
    TournamentCancelled,
    TournamentCreated,
    TrainingReopened,
    TrainingRetried,
)
from tourney_ray.core.leases import Cluster
from tourney_ray.core.nodes import Node
from tourney_ray.driver import actor
from tourney_ray.driver.actor import Driver
from tourney_ray.driver.loop import Outcome
from tourney_ray.effects.retention import NodeSwept, Swept
from tourney_ray.errors import NotAllowed, NotFound, StorageUnavailable
from tourney_ray.store.journal import Journal


class NoRay:
    """A dispatcher that announces tournaments and does nothing else; `latest` is the one of the test's driver."""

    latest: NoRay

    def __init__(self, _settings: Settings, _state: Any, report: Any, _namespace: str) -> None:
        self.troubles: dict[str, str] = {}
        self.on_defect: Any = None
        self.demands: list[Sequence[Any]] = []
        self.nodes: tuple[Node, ...] = ()
        self.looks = 0
        self._report = report
        NoRay.latest = self

    def cluster(self) -> Cluster:
        self.looks += 1
        return Cluster(self.nodes)

    def problems(self) -> dict[str, str]:
        return {"node.n1": "it lies"}

    def named(self, reasons: Mapping[str, str]) -> dict[str, str]:
        return dict(reasons)

    def announce(self, demand: Sequence[Any], _seats: Sequence[Any] = ()) -> None:
        self.demands.append(demand)

    async def withdraw(self) -> None:
        self.announce(())

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


@dataclass
class Nodes:
    """Nodes that are swept as a test says; `asked` holds every question."""

    sweep: Callable[[], Awaitable[list[NodeSwept]]] | None = None
    asked: list[bool] = field(default_factory=list[bool])
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _settings: Settings, _namespace: str, dry_run: bool) -> list[NodeSwept]:
        self.asked.append(dry_run)
        self.begun.set()
        return await self.sweep() if self.sweep else [NodeSwept(node="n1")]


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """In place of Ray."""
    nodes = Nodes()
    monkeypatch.setattr(Driver, "dispatchers", NoRay)
    monkeypatch.setattr(actor, "sweep_nodes", nodes)
    monkeypatch.setattr(actor, "STORAGE_PAUSE_S", 0.01)
    return nodes


async def test_a_follower_gets_what_is_recorded_and_why_it_waits(settings: Settings) -> None:
    driver = Driver(settings)
    update = await driver.follow(0)
    assert [entry.kind for entry in update.entries] == ["TournamentCreated"]
    assert update.waits == {"text-1": "the miners are asked for their repositories"}
    assert update.problems == {"node.n1": "it lies"}
    assert (await driver.follow(1, wait_s=0.01)).entries == ()
    await driver.stop()


async def test_a_node_that_joins_late_is_recorded_within_a_second(settings: Settings) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    NoRay.latest.nodes = (Node("n1", {"H100": 8}),)
    began = time.monotonic()
    update = await driver.follow(1)
    assert [entry.fact for entry in update.entries] == [NodeJoined(node="n1", gpus={"H100": 8})]
    assert time.monotonic() - began < 1.0
    await driver.stop()


async def test_nothing_is_planned_anew_while_the_nodes_stay_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "LOOK_S", 0.001)
    driver = Driver(settings)
    await driver.follow(0)
    steps: list[int] = []
    monkeypatch.setattr(driver._loop, "step", lambda *_: steps.append(1))
    looks = NoRay.latest.looks
    while NoRay.latest.looks < looks + 20:
        await asyncio.sleep(0)
    assert steps == []
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


# --- what people do

CANCEL = TournamentCancelled(tournament_id="text-1", by="ann", because="too few miners")


async def test_an_act_is_recorded_with_what_it_forces_and_answered_with_its_number(settings: Settings) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    assert await driver.act(CANCEL) == 2
    update = await driver.follow(1)
    assert [entry.kind for entry in update.entries] == ["TournamentCancelled"]
    assert update.waits == {}, "nobody asks miners for a tournament that was cancelled"
    table = await driver.query('SELECT kind, subject, "by", because FROM acts')
    assert table.to_pylist() == [
        {"kind": "TournamentCancelled", "subject": "text-1", "by": "ann", "because": "too few miners"}
    ]
    await driver.stop()


@pytest.mark.parametrize(
    ("act", "why", "hint"),
    [
        (
            TournamentCancelled(tournament_id="text-2", by="ann", because="x"),
            "there is no tournament text-2",
            "pending or active: text-1",
        ),
        (
            TrainingRetried(tournament_id="text-1", task_id="a", hotkey="h", by="ann", because="x"),
            "there is no task a in text-1",
            "its tasks: none",
        ),
        (
            TrainingReopened(tournament_id="text-2", task_id="a", hotkey="h", by="ann", because="x"),
            "there is no tournament text-2",
            "pending or active: text-1",
        ),
        (
            NodeFenced(node="gone", by="ann", because="x"),
            "there is no node gone",
            "lost ones that still hold GPUs: none",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.kind,
)
async def test_what_is_not_there_is_told_with_the_candidates_and_nothing_is_recorded(
    settings: Settings, act: Act, why: str, hint: str
) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    with pytest.raises(NotFound) as caught:
        await driver.act(act)
    assert (caught.value.message, caught.value.hint) == (why, hint)
    assert len((await driver.follow(0)).entries) == 1
    await driver.stop()


async def test_what_cannot_be_done_is_refused_in_one_line_with_a_hint_and_nothing_is_recorded(
    settings: Settings,
) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    await driver.act(CANCEL)
    with pytest.raises(NotAllowed) as caught:
        await driver.act(CANCEL)
    assert caught.value.message == "not cancelled: the tournament is cancelled"
    assert "only what is pending or active" in caught.value.hint
    assert len((await driver.follow(0)).entries) == 2
    await driver.stop()


async def test_of_two_acts_at_once_the_second_meets_what_the_first_has_done(settings: Settings) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    answers = await asyncio.gather(driver.act(CANCEL), driver.act(CANCEL), return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, NotAllowed]
    await driver.stop()


async def test_a_halted_driver_says_so_and_records_nothing(settings: Settings) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    NoRay.latest.on_defect(KeyError("gone"))
    with pytest.raises(NotAllowed, match="the driver halted: KeyError: 'gone'"):
        await driver.act(CANCEL)
    await driver.stop()


async def test_a_driver_that_halts_or_stops_leaves_nobody_waiting(settings: Settings) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    waiting = asyncio.ensure_future(driver.act(CANCEL))
    await asyncio.sleep(0)
    NoRay.latest.on_defect(KeyError("gone"))
    with pytest.raises(NotAllowed, match="the driver halted"):
        await waiting
    await driver.stop()
    driver = Driver(settings)
    await driver.follow(0)
    await driver.stop()
    with pytest.raises(NotAllowed, match="the driver is being stopped"):
        await driver.act(CANCEL)


async def test_without_a_disk_an_act_is_refused_at_once_and_not_done_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    append, full = Journal.append, [True]

    def failing(journal: Journal, facts: Sequence[Fact], at: datetime) -> list[Entry]:
        if full:
            raise StorageUnavailable("the disk is full")
        return append(journal, facts, at)

    def shut(_path: Any) -> Journal:
        raise StorageUnavailable("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Journal, "append", failing)
        broken.setattr(Journal, "open", shut)
        for _ in range(2):
            with pytest.raises(NotAllowed, match="nothing can be recorded now: the disk is full") as caught:
                await driver.act(CANCEL)
            assert caught.value.hint.startswith("nothing was recorded")
    while (await driver.follow(1, wait_s=0.01)).waits.get("journal"):
        pass
    assert len((await driver.follow(0)).entries) == 1
    assert await driver.act(CANCEL) == 2
    await driver.stop()


async def test_who_asks_while_the_disk_fails_is_answered_or_told_to_wait(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is closed and opened again once the question is answered that is being asked."""
    driver = Driver(settings)
    await driver.follow(0)
    asked, answer = threading.Event(), threading.Event()

    def slow(_database: Any, sql: str) -> str:
        asked.set()
        assert answer.wait(60)
        return sql

    with monkeypatch.context() as broken:
        broken.setattr(actor, "query", slow)
        broken.setattr(Journal, "append", _full)
        question = asyncio.ensure_future(driver.query("SELECT 1"))
        await asyncio.to_thread(asked.wait, 60)
        with pytest.raises(NotAllowed, match="nothing can be recorded now"):
            await driver.act(CANCEL)
        with pytest.raises(NotAllowed, match="the journal cannot be read now: the disk is full"):
            await driver.query("SELECT 2")
        answer.set()
        assert await question == "SELECT 1"
    while (await driver.follow(1, wait_s=0.01)).waits.get("journal"):
        pass
    assert await driver.act(CANCEL) == 2
    assert (await driver.query("SELECT count(*) AS n FROM journal")).to_pylist() == [{"n": 2}]
    await driver.stop()
    with pytest.raises(NotAllowed, match="the journal cannot be read now: the driver is being stopped"):
        await driver.query("SELECT 1")


async def test_a_journal_that_is_away_is_waited_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    away = settings.state.with_name("away")
    with monkeypatch.context() as broken:
        broken.setattr(Journal, "append", _full)
        settings.state.rename(away)
        with pytest.raises(NotAllowed, match="nothing can be recorded now"):
            await driver.act(CANCEL)
        await driver.follow(1, wait_s=0.05)
        assert "journal" in (await driver.follow(1, wait_s=0.05)).waits
        assert not settings.state.exists()
        away.rename(settings.state)
    while (await driver.follow(1, wait_s=0.01)).waits.get("journal"):
        pass
    assert await driver.act(CANCEL) == 2
    await driver.stop()


def _full(_journal: Journal, _facts: Sequence[Fact], _at: datetime) -> list[Entry]:
    raise StorageUnavailable("the disk is full")


async def test_a_trouble_is_told_while_its_command_is_wanted(settings: Settings) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    NoRay.latest.troubles = {"ask/text-1/1": "no registry", "release/long-ago": "its node was lost"}
    assert (await driver.follow(0)).waits["ask/text-1/1"] == "no registry"
    assert "release/long-ago" not in (await driver.follow(0)).waits
    await driver.stop()


# --- what is left of tournaments


async def test_what_is_needed_is_asked_of_the_state(settings: Settings) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    assert (await driver.holdings()).trees == frozenset()
    await driver.stop()


async def test_the_nodes_are_swept_when_asked_and_when_a_tournament_is_over(settings: Settings, nodes: Nodes) -> None:
    driver = Driver(settings)
    await driver.follow(0)
    assert await driver.gc(dry_run=True) == [NodeSwept(node="n1")]
    nodes.begun.clear()
    await driver.act(CANCEL)
    await nodes.begun.wait()
    assert nodes.asked == [True, False]
    await driver.stop()


async def test_what_keeps_nodes_from_being_swept_is_logged_and_stops_nothing(
    settings: Settings, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> list[NodeSwept]:
        raise KeyError("no cluster")

    nodes.sweep = broken
    driver = Driver(settings)
    await driver.follow(0)
    await driver.act(CANCEL)
    await nodes.begun.wait()
    assert (await driver.follow(2, wait_s=0.01)).halted == ""
    assert "the nodes could not be swept" in caplog.text
    await driver.stop()


async def test_the_trouble_of_one_node_is_logged(
    settings: Settings, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    async def troubled() -> list[NodeSwept]:
        images = Swept(what="images", trouble="no engine")
        return [NodeSwept(node="n1", swept=(images,)), NodeSwept(node="n2", trouble="it is gone")]

    nodes.sweep = troubled
    driver = Driver(settings)
    await driver.follow(0)
    await driver.act(CANCEL)
    await nodes.begun.wait()
    await driver.follow(2, wait_s=0.01)
    assert "n1 was not swept to the end: no engine" in caplog.text
    assert "n2 was not swept to the end: it is gone" in caplog.text
    await driver.stop()


async def test_a_driver_that_stops_waits_for_no_sweep(settings: Settings, nodes: Nodes) -> None:
    async def endless() -> list[NodeSwept]:
        await asyncio.Event().wait()
        return []

    nodes.sweep = endless
    driver = Driver(settings)
    await driver.follow(0)
    await driver.act(CANCEL)
    await nodes.begun.wait()
    await driver.stop()


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
