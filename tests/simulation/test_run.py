"""Whole runs: what they play, that a seed is always the same, and that each fault happens and breaks nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.journals import told
from tourney_ray.core import events as e
from tourney_ray.core.models import TournamentStatus, TournamentType, Trained
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import State
from tourney_ray.simulation import run as running
from tourney_ray.simulation.cluster import Container
from tourney_ray.simulation.faults import KINDS, MOST_OF_A_KIND
from tourney_ray.simulation.run import ENOUGH, START, Played, Run, Setting
from tourney_ray.simulation.sweep import play_seed, play_seeds, varied
from tourney_ray.simulation.verdicts import decisions, differences
from tourney_ray.store.agreement import check_agreement
from tourney_ray.store.journal import Journal
from tourney_ray.store.memory import MemoryJournal, MemoryStore

CALM = Setting()
STORM = Setting(faults=frozenset(KINDS))
BOTH = (TournamentType.TEXT, TournamentType.IMAGE)


def played(setting: Setting, seed: int) -> tuple[Played, MemoryStore]:
    store = MemoryStore()
    return Run(setting, seed, lambda: MemoryJournal.open(store)).play(), store


def same(one: Played, other: Played) -> bool:
    """Whether two runs were the same to the last word; NaN equals NaN."""
    return replace(one, state=State()) == replace(other, state=State()) and told(one.state) == told(other.state)


# --- the same seed


@pytest.mark.parametrize("setting", [CALM, STORM], ids=["calm", "storm"])
def test_a_run_twice_is_the_same_to_the_byte(setting: Setting):
    (one, first), (two, second) = played(setting, 3), played(setting, 3)
    assert first.lines == second.lines
    assert same(one, two)
    assert played(setting, 4)[1].lines != first.lines


def test_the_faults_change_the_journal_and_no_decision():
    (calm, quiet), (storm, loud) = played(CALM, 3), played(STORM, 3)
    assert quiet.lines != loud.lines
    assert differences(decisions(storm.state), decisions(calm.state)) == []
    assert storm.lives > calm.lives == 1
    assert calm.happened == {}


# --- each fault


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_happens_and_breaks_nothing(kind: str):
    happened = 0
    for seed in (1, 2):
        result = play_seed(replace(CALM, faults=frozenset({kind})), seed)
        assert result.violations == ()
        assert set(result.faults) <= {kind}
        happened += result.faults.get(kind, 0)
    assert 0 < happened <= 2 * MOST_OF_A_KIND


@pytest.mark.parametrize("preset", ["spec", "god-2025-12"])
@pytest.mark.parametrize("entrants", [8, 20])
def test_all_faults_together_break_nothing(entrants: int, preset: str):
    setting = replace(STORM, entrants=entrants, rules=Rules.preset(preset))
    happened = set[str]()
    for seed in (1, 2):
        result = play_seed(setting, seed)
        assert result.violations == ()
        happened |= set(result.faults)
    assert happened == set(KINDS)


def test_few_gpus_make_a_tournament_longer_and_change_nothing_else():
    (wide, _), (narrow, _) = played(CALM, 2), played(replace(CALM, nodes="1x8H100"), 2)
    assert narrow.days > wide.days
    assert differences(decisions(narrow.state), decisions(wide.state)) == []


# --- what is played


def test_a_tournament_follows_another_and_its_champion_defends():
    result, _ = played(replace(STORM, tournaments=2), 3)
    first, second = result.state.tournaments.values()
    assert result.broken == ()
    assert first.completed
    assert second.completed
    assert second.champion
    assert second.champion.hotkey == first.completed.winner
    assert first.completed_at
    assert (second.created_at - first.completed_at).total_seconds() >= 72 * 3600 - 2 * 7200  # clocks jump


def test_both_types_run_side_by_side():
    result, _ = played(replace(STORM, types=BOTH), 5)
    assert result.broken == ()
    assert {t.tournament_type for t in result.state.tournaments.values() if t.completed} == set(BOTH)


@pytest.mark.parametrize("setting", [CALM, STORM], ids=["calm", "storm"])
def test_a_cancelled_tournament_gives_every_fee_back_and_is_followed(setting: Setting):
    result, _ = played(replace(setting, cancels=True), 7)
    cancelled, after = list(result.state.tournaments.values())[:2]
    assert result.broken == ()
    assert cancelled.status is TournamentStatus.CANCELLED
    assert set(cancelled.refunded) == set(cancelled.charges) != set()
    assert after.completed
    assert result.state.leases == {}


def test_a_seed_on_a_real_journal_leaves_tables_that_agree(tmp_path: Path):
    path = tmp_path / "journal.duckdb"
    real = Run(STORM, 3, lambda: Journal.open(path)).play()
    assert same(real, played(STORM, 3)[0])
    check_agreement(path)


def test_settings_vary_from_seed_to_seed():
    setting = replace(CALM, varies=True)
    several = [varied(setting, seed) for seed in range(20)]
    assert {s.entrants for s in several} == set(range(8, 15))
    assert {s.types for s in several} == {BOTH, BOTH[:1], BOTH[1:]}
    assert {s.tournaments for s in several} == {1, 2}
    assert any(s.cancels for s in several)
    assert varied(CALM, 7) == CALM


def test_seeds_come_in_their_order_from_several_processes():
    results = list(play_seeds(CALM, range(1, 4), jobs=2))
    assert [result.seed for result in results] == [1, 2, 3]
    assert results[0] == play_seed(CALM, 1)


# --- what the simulation knows to be true


def broken_by(tell: Callable[[Run], None]) -> list[str]:
    """What is broken when that is done to a run before its first event."""
    run = Run(CALM, 1)
    tell(run)
    return run._world.broken


def _free(run: Run, *, runs: bool) -> None:
    """Play until the first container runs, then claim that its GPUs are free."""
    run._be_born()
    machines = run._world.cluster.machines.values()
    while not any(machine.containers for machine in machines):
        assert run._world.clock.next()
    machine = next(machine for machine in machines if machine.containers)
    attempt_id = next(iter(machine.containers))
    if not runs:
        del machine.containers[attempt_id]
    lease = run._lives[-1].state.leases[attempt_id]
    ended = e.LeaseEnded(
        tournament_id=lease.tournament_id,
        task_id=lease.task_id,
        hotkey=lease.hotkey,
        attempt_id=attempt_id,
        because="somebody says so",
    )
    run._lives[-1]._handle.append([ended], START)


def test_a_lease_that_ends_while_its_container_runs_is_noticed():
    (found,) = broken_by(lambda run: _free(run, runs=True))
    assert "frees the GPUs of" in found
    assert "which runs on node-" in found


def test_a_lease_that_ends_with_its_container_is_as_it_should_be():
    assert broken_by(lambda run: _free(run, runs=False)) == []


def test_a_container_that_finds_no_gpu_is_noticed():
    squatter = Container("squatter", "H100", tuple(range(8)), "sha256:0", 1e9, Trained(checkpoint="c", seconds=1.0))
    run = Run(replace(CALM, nodes="1x8H100"), 1)
    run._world.cluster.machines["node-00"].containers["squatter"] = squatter
    assert "was let start and finds 0 of" in run.play().broken[0]


def test_a_run_that_can_not_end_says_what_it_waits_for():
    result = Run(replace(CALM, nodes="1x1A100"), 1).play()
    (stuck,) = result.broken
    assert stuck.startswith("stuck after")
    assert "is active" in stuck


def test_a_run_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "MOST_EVENTS", 10)
    assert Run(CALM, 1).play().broken[0].startswith("stuck after 0.0 days: ")


def test_a_hopeless_run_is_not_played_to_its_end():
    run = Run(CALM, 1)
    run._world.broken += ["something"] * ENOUGH
    assert run.play().broken == ("something",) * ENOUGH
