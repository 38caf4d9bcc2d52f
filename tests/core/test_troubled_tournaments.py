"""Whole tournaments in which nodes come and go and people do what they may: no GPU twice, no fee lost, an end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import miners
from tests.core.arena import CRASH, NODE_LOST, Arena, by_number, trained
from tourney_ray.core import events as e
from tourney_ray.core.checker import violations
from tourney_ray.core.commands import Evaluate, Train
from tourney_ray.core.evolve import evolve
from tourney_ray.core.leases import Cluster, free_gpus
from tourney_ray.core.models import AttemptStatus, Evaluated, Failed, TournamentStatus, Trained, TrainingSpec
from tourney_ray.core.plan import plan
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import Node, State

NODES = (Node("n1", {"H100": 4}), Node("n2", {"H100": 8}), Node("n3", {"H100": 8}))
CALM = Cluster(NODES)
SAID: dict[str, Any] = {"by": "ada", "because": "tested"}
ACTS = 40
"""At most: whoever reopens for ever never ends."""


@dataclass
class Troubled:
    """A tournament in which, between any two events, something may happen that nobody asked for."""

    dice: random.Random
    faults: float
    cancels: bool
    acts: int = 0

    def play(self) -> Arena:
        rules = Rules(max_platform_failures=self.dice.choice([1, 3, 20]))
        arena = Arena(miners(self.dice.choice([8, 9, 11])), cluster=CALM, rules=rules)
        arena.trains, arena.measures = self._trains, self._measures
        arena.open()
        while arena.step(self.dice.choice):
            if self.dice.random() < 0.2 and self.acts < ACTS:
                self.acts += 1
                self._disturb(arena)
                check(arena)
        arena.cluster = CALM
        arena.run(self.dice.choice)
        return arena

    def _disturb(self, arena: Arena) -> None:
        if self.dice.random() < 0.4:
            arena.cluster = Cluster(tuple(node for node in NODES if self.dice.random() < 0.6))
            arena.plan()
        elif acts := list(possible(arena.stage.state, self.cancels and self.acts > ACTS / 2)):
            arena.stage.record(self.dice.choice(acts))

    def _trains(self, spec: TrainingSpec) -> Trained | Failed:
        if self.dice.random() >= self.faults:
            return trained(spec)
        return self.dice.choice([CRASH, NODE_LOST])

    def _measures(self, command: Evaluate) -> Evaluated | None:
        if self.dice.random() < self.faults / 2:
            return None
        refused = "unsafe file" if self.dice.random() < self.faults / 2 else ""
        return by_number(command).model_copy(update={"refused": refused})


def possible(state: State, cancels: bool) -> Iterator[e.Act]:
    """All that a person may do now."""
    yield from (e.NodeFenced(node=n.node_id, **SAID) for n in state.nodes.values() if n.lost_at)
    for t in state.live():
        if cancels:
            yield e.TournamentCancelled(tournament_id=t.tournament_id, **SAID)
        for task in t.tasks.values():
            for training in task.trainings.values() if task.decided is None else ():
                where: dict[str, Any] = {"tournament_id": t.tournament_id, "task_id": task.task_id}
                where["hotkey"] = training.hotkey
                over = training.terminal and (training.evaluated or training.failed_by)
                yield e.TrainingReopened(**where, **SAID) if over else e.TrainingRetried(**where, **SAID)


def check(arena: Arena) -> None:
    """Leases and the plan are sound at this moment."""
    state = arena.stage.state
    assert all(free >= 0 for free in free_gpus(state).values()), "no GPU has two holders"
    assert all(lease.node in state.nodes for lease in state.leases.values())
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


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64).map(random.Random), st.sampled_from([0.0, 0.2]), st.booleans())
def test_whatever_happens_it_ends_and_nothing_is_broken(dice: random.Random, faults: float, cancels: bool):
    arena = Troubled(dice, faults, cancels).play()
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
