"""Whole tournaments in which nodes come and go and people do what they may: no GPU twice, no fee lost, an end."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from tests.core.arena import Arena
from tests.core.troubled import NODES, Troubled
from tourney_ray.core import events as e
from tourney_ray.core.checker import violations
from tourney_ray.core.commands import Train
from tourney_ray.core.evolve import evolve
from tourney_ray.core.leases import free_gpus
from tourney_ray.core.models import AttemptStatus, TournamentStatus
from tourney_ray.core.plan import plan


def check(arena: Arena) -> None:
    """Leases and the plan are sound at this moment."""
    state = arena.stage.state
    assert all(free >= 0 for free in free_gpus(state).values()), "no GPU has two holders"
    assert all(lease.node in state.nodes for lease in state.leases.values())
    assert not any(state.nodes[lease.node].fenced for lease in state.leases.values()), "a fence ends every lease"
    for lease in state.leases.values():
        attempt = (
            state.tournaments[lease.tournament_id]
            .tasks[lease.task_id]
            .trainings[lease.hotkey]
            .attempts[lease.epoch - 1]
        )
        assert (attempt.attempt_id, attempt.node) == (lease.attempt_id, lease.node)
    now = plan(state, arena.stage.at)
    assert max(Counter(c.command_id for c in now.commands).values(), default=1) == 1
    for command in now.commands:
        if isinstance(command, Train) and command.intent:
            state = evolve(state, command.intent, arena.stage.at)  # what is planned together fits together


@pytest.mark.no_cover  # three times as long otherwise, and other tests reach all of it
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64).map(random.Random), st.sampled_from([0.0, 0.2]), st.booleans())
def test_whatever_happens_it_ends_and_nothing_is_broken(dice: random.Random, faults: float, cancels: bool):
    arena = Troubled(dice, faults, cancels, after=check).play()
    facts, t = [fact for fact, _ in arena.stage.facts], arena.tournament
    assert t.status in (TournamentStatus.COMPLETED, TournamentStatus.CANCELLED)
    assert violations(facts) == []
    assert arena.stage.state.leases == {}
    assert set(arena.stage.state.nodes) == {node.node_id for node in NODES}
    _one_end_per_attempt(arena)
    _money_is_whole(arena)


def _one_end_per_attempt(arena: Arena) -> None:
    starts = Counter(f.attempt_id for f, _ in arena.stage.facts if isinstance(f, e.AttemptStarted))
    frees = Counter(f.attempt_id for f, _ in arena.stage.facts if isinstance(f, e.LeaseEnded))
    assert starts == frees
    assert set(starts.values()) <= {1}
    if arena.tournament.status is TournamentStatus.COMPLETED:
        attempts = [
            a for task in arena.tournament.tasks.values() for tr in task.trainings.values() for a in tr.attempts
        ]
        assert {a.attempt_id for a in attempts} == set(starts)
        assert all(a.status is not AttemptStatus.TRAINING and a.ended_at and a.outcome for a in attempts)


def _money_is_whole(arena: Arena) -> None:
    t, fee = arena.tournament, 200_000_000
    back = Counter(f.hotkey for f, _ in arena.stage.facts if isinstance(f, e.Refunded))
    cancelled = t.status is TournamentStatus.CANCELLED
    assert back == (dict.fromkeys(t.charges, 1) if cancelled else {})
    kept = 0 if cancelled else len(t.entrants)
    assert sum(arena.stage.state.balances.values()) == len(arena.entrants) * 10**9 - kept * fee
