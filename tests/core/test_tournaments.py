"""Whole tournaments with random skill, faults and order of events: each ends, and the order changes no verdict."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.builders import CHAMPION, evaluated, leased, miners, offer
from tests.core.arena import Arena
from tourney_ray.core import events as e
from tourney_ray.core.commands import Evaluate, PrepareTask
from tourney_ray.core.evolve import evolve
from tourney_ray.core.leases import Cluster
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import (
    Blame,
    Evaluated,
    Failed,
    RoundType,
    TournamentStatus,
    TournamentType,
    Trained,
    TrainingSpec,
    TrainingStatus,
)
from tourney_ray.core.nodes import Node
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.state import State, Tournament

CLUSTER = Cluster((Node("n1", {"H100": 8, "A100": 1}), Node("n2", {"H100": 8}), Node("n3", {"A100": 2})), 5)
VALUES = (0.25, 0.5, 0.5, 0.75, 1.0, -1.0, 0.0, math.nan, math.inf)
"""Few, so that ties happen, and some that are invalid."""


@dataclass(frozen=True)
class World:
    """What happens to whom: follows from the salt and the name of the thing alone, never from the order of events."""

    salt: int
    entrants: int
    champion: bool
    kind: TournamentType
    faults: float
    """Chance that a training, an evaluation or a preparation fails."""

    def play(self, order: random.Random) -> Arena:
        """The tournament, one event at a time, the next one chosen by `order` among all that may come."""
        arena = Arena(miners(self.entrants), offer(CHAMPION) if self.champion else None, cluster=CLUSTER)
        arena.trains, arena.measures, arena.prepares = self.trains, self.measures, self.prepares
        arena.open(self.kind)
        while arena.step(order.choice):
            _no_gpu_twice(arena)
        return arena

    def trains(self, spec: TrainingSpec) -> Trained | Failed:
        u = self._chance(spec.attempt_id)
        if u >= self.faults:
            return Trained(checkpoint=spec.attempt_id, seconds=u)
        blame = (Blame.MINER, Blame.PLATFORM, Blame.EVALUATOR)[int(u * 1e6) % 3]
        return Failed(blame=blame, kind="Fault", reason=f"fault of the {blame}")

    def measures(self, command: Evaluate) -> Evaluated | None:
        if self._chance(command.command_id) < self.faults:
            return None
        what = f"{command.task_id}|{command.hotkey}|{command.number}"
        value = VALUES[int(self._chance(what) * len(VALUES))]
        copied = self._chance(f"copied|{what}") < self.faults / 2
        digest = command.task_id if copied else hashlib.sha256(what.encode()).hexdigest()
        refused = "unsafe file" if self._chance(f"refused|{command.attempt_id}") < self.faults / 2 else ""
        trained = self._chance(f"base|{what}") >= 0.05
        return evaluated(value, digest).model_copy(update={"fine_tuned": trained, "refused": refused})

    def prepares(self, command: PrepareTask) -> bool:
        return self._chance(command.task_id) >= self.faults

    def _chance(self, what: str) -> float:
        return int.from_bytes(hashlib.sha256(f"{self.salt}|{what}".encode()).digest()[:4], "big") / 2**32


worlds = st.builds(
    World,
    salt=st.integers(0, 2**64),
    entrants=st.integers(8, 20),
    champion=st.booleans(),
    kind=st.sampled_from(TournamentType),
    faults=st.sampled_from([0.0, 0.1, 0.4]),
)
orders = st.integers(0, 2**64).map(random.Random)
"""By seed, not choice by choice: a tournament has hundreds, too many for a failing example to shrink in."""


@pytest.mark.no_cover  # three times as long otherwise, and other tests reach all of it
@settings(max_examples=30, deadline=None)
@given(worlds, orders)
def test_every_tournament_ends_with_one_verdict_per_match_and_entrant(world: World, order: random.Random):
    arena = world.play(order)
    t = arena.tournament
    assert t.status is TournamentStatus.COMPLETED
    assert t.secret_seed
    decided = Counter(f.match_id for f, _ in arena.stage.facts if isinstance(f, e.MatchDecided))
    assert decided == {match_id: 1 for r in t.rounds for match_id in r.matches}
    for r in t.rounds:
        for match in r.matches.values():
            assert match.decided is not None
            assert sorted(v.hotkey for v in match.decided.verdicts) == sorted(match.entrants)
            assert all(v.because for v in match.decided.verdicts)
            assert {v.hotkey for v in match.decided.verdicts if v.advances} == set(match.decided.advancing)
    _rounds_follow(t)
    _attempts_within_limits(t)
    _ends_well(t)
    _money_is_conserved(arena)


@pytest.mark.no_cover  # three times as long otherwise, and other tests reach all of it
@settings(max_examples=15, deadline=None)
@given(worlds, orders, orders)
def test_the_order_of_events_changes_no_verdict(world: World, one: random.Random, other: random.Random):
    assert bracket(world.play(one).tournament) == bracket(world.play(other).tournament)


@settings(max_examples=8, deadline=None)
@given(worlds, orders)
def test_a_verdict_once_given_stays(world: World, order: random.Random):
    state, given_verdicts = State(), dict[str, e.MatchDecided]()
    for fact, at in world.play(order).stage.facts:
        state = evolve(state, fact, at)
        if isinstance(fact, e.MatchDecided):
            given_verdicts[fact.match_id] = fact
        matches = {m.match_id: m for t in state.tournaments.values() for r in t.rounds for m in r.matches.values()}
        assert all(matches[match_id].decided is verdict for match_id, verdict in given_verdicts.items())


def test_a_champion_meets_the_next_tournament_three_days_later():
    arena = Arena(miners(9), agenda=Agenda((TournamentType.TEXT,), endless=True))
    while len(arena.stage.state.tournaments) < 4:
        assert arena.step()
    first, second, third, fourth = arena.stage.state.tournaments.values()
    assert [t.completed and (t.completed.winner, t.completed.title) for t in (first, second, third)] == [
        ("m08", "won"),
        ("m08", "defended"),
        ("m08", "defended"),
    ]
    assert [t.champion_wins for t in (first, second, third, fourth)] == [0, 1, 2, 3]
    assert first.completed_at is not None
    assert second.created_at - first.completed_at >= timedelta(hours=72)
    assert "m08" not in second.entrants
    reign = arena.stage.state.reigns[TournamentType.TEXT]
    assert (reign.wins, reign.tournament_id) == (3, third.tournament_id)
    assert first.completed is not None
    assert reign.performance_difference == first.completed.performance_difference > 0


def test_other_skill_other_bracket():
    worlds = [World(salt, 12, True, TournamentType.TEXT, 0.0) for salt in range(4)]
    assert len({bracket(w.play(random.Random(0)).tournament) for w in worlds}) == 4


def bracket(t: Tournament) -> str:
    """All that was drawn and decided, without the order and the moments."""
    rounds: list[Any] = [
        (
            r.round_id,
            r.round_type,
            [(m.match_id, m.entrants, sorted(m.tasks.items()), m.decided) for m in r.matches.values()],
            r.byes,
            r.advancing,
        )
        for r in t.rounds
    ]
    return repr((rounds, sorted((task_id, task.decided) for task_id, task in t.tasks.items()), t.completed))


def _no_gpu_twice(arena: Arena) -> None:
    held = leased(arena.stage.state)
    assert all(held.get((n.node_id, k), 0) <= count for n in CLUSTER.nodes for k, count in n.gpus.items())
    assert len(arena.plan().commands) == len({c.command_id for c in arena.plan().commands})


def _rounds_follow(t: Tournament) -> None:
    left = tuple(t.entrants)
    for r in t.rounds:
        playing = [h for match in r.matches.values() for h in match.entrants]
        extra = [CHAMPION] if r.round_type is RoundType.BOSS else []
        assert sorted([*playing, *r.byes]) == sorted([*left, *extra])
        assert len(r.byes) <= 1
        assert set(r.advancing) <= {*playing, *r.byes}
        left = r.advancing


def _attempts_within_limits(t: Tournament) -> None:
    for task in t.tasks.values():
        assert 1 <= task.evaluation <= t.rules.max_evaluations
        for training in task.trainings.values():
            miners_faults = training.miner_failures
            assert [a.epoch for a in training.attempts] == list(range(1, len(training.attempts) + 1))
            if training.status is TrainingStatus.FAILURE:
                assert miners_faults == t.rules.max_training_attempts
                assert training.evaluated is None or training.evaluated.refused
            else:
                assert training.status is TrainingStatus.SUCCESS
                assert miners_faults < t.rules.max_training_attempts
                assert training.evaluated is not None


def _ends_well(t: Tournament) -> None:
    done = t.completed
    assert done is not None
    survivors = t.rounds[-1].advancing
    assert done.title in {"won", "defended"} if t.champion else {"uncontested", "vacant"}
    assert done.winner == (CHAMPION if done.title == "defended" else survivors[0] if survivors else None)
    if t.rounds[-1].round_type is RoundType.BOSS:
        (match,) = t.rounds[-1].matches.values()
        assert len(match.tasks) == 6
        won = sum(_winner(t, task_id) == match.entrants[1] for task_id in match.tasks.values())
        assert (done.title == "won") == (won > 3)
    assert sum(s.weight for s in done.standings) == 0 or math.isclose(math.fsum(s.weight for s in done.standings), 1.0)
    assert not done.standings or done.winner in (None, done.standings[0].hotkey)
    assert all(s.points == 0 for s in done.standings if s.hotkey in (CHAMPION, done.winner))


def _winner(t: Tournament, task_id: str) -> str | None:
    """The winner of a boss task by §8, worked out here once more."""
    task = t.tasks[task_id]
    assert task.decided is not None
    champion, challenger = t.rounds[-1].matches[task.match_id].entrants
    values = {r.hotkey: r.value for r in task.decided.ranking if r.valid}
    b, c = values.get(champion), values.get(challenger)
    if c is None or b is None:
        return champion if c is None else challenger
    margin = 0.125 * abs(b)
    lower = METRICS[task.task_type].direction == "lower"
    return challenger if (c < b - margin if lower else c > b + margin) else champion


def _money_is_conserved(arena: Arena) -> None:
    fee = arena.rules.fee_rao[arena.tournament.tournament_type]
    assert set(arena.tournament.charges) == set(arena.tournament.entrants)
    assert {charge.rao for charge in arena.tournament.charges.values()} == {fee}
    assert arena.tournament.refunded == frozenset()
    assert sum(arena.stage.state.balances.values()) == len(arena.entrants) * (10**9 - fee)
