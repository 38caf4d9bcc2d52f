"""A tournament whose nodes come and go while people do what they may, by dice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.builders import miners
from tests.core.arena import CRASH, NODE_LOST, Arena, by_number, trained
from tourney_ray.core import events as e
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Evaluated, Failed, Trained, TrainingSpec
from tourney_ray.core.nodes import Node
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import State

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
    after: Callable[[Arena], None] = lambda arena: None
    """Called whenever something has happened that nobody asked for."""

    def play(self) -> Arena:
        """The arena at its end, with all nodes back."""
        rules = Rules(max_platform_failures=self.dice.choice([1, 3, 20]))
        arena = Arena(miners(self.dice.choice([8, 9, 11])), cluster=CALM, rules=rules)
        arena.trains, arena.measures = self._trains, self._measures
        arena.open()
        while arena.step(self.dice.choice):
            if self.dice.random() < 0.2 and self.acts < ACTS:
                self.acts += 1
                self._disturb(arena)
                self.after(arena)
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
