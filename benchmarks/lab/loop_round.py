"""A driver's loop on a real journal, in the middle of a group round: trainings end one by one, and others start."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from lab.group_round import AT, GroupRound, cluster
from tourney_ray.core.commands import Command, Train
from tourney_ray.core.leases import Cluster, Seat
from tourney_ray.core.models import GpuRequirement, Trained
from tourney_ray.core.schedule import Agenda
from tourney_ray.driver.loop import Loop, Outcome
from tourney_ray.driver.outcomes import attempt_ended, lease_ended
from tourney_ray.store.journal import Journal


class Started:
    """A dispatcher that remembers which trainings it was to start."""

    def __init__(self, nodes: Cluster) -> None:
        self._nodes = nodes
        self.trainings: deque[Train] = deque()

    def cluster(self) -> Cluster:
        """The same nodes, always."""
        return self._nodes

    def announce(self, demand: Sequence[GpuRequirement], seats: Sequence[Seat]) -> None:
        """Nobody scales them."""

    def dispatch(self, command: Command) -> None:
        """Remember a training; evaluations go on for ever."""
        if isinstance(command, Train):
            self.trainings.append(command)


class LoopRound:
    """The loop of a tournament with so many trainings, of which as many run as there are GPUs."""

    def __init__(self, folder: Path, trainings: int, gpus: int) -> None:
        group = GroupRound(trainings, cluster(gpus)).open()
        for _ in range(3):
            group.turn()  # until the round starts
        self.journal = Journal.open(folder)
        self.journal.append(group.facts, AT)
        self._dispatcher = Started(group.cluster)
        self._loop = Loop(self.journal, self._dispatcher, Agenda())
        self._loop.step((), AT)

    def step(self) -> None:
        """A training ends: its outcome is recorded, its evaluation and the next training are started."""
        train = self._dispatcher.trainings.popleft()
        outcome = Trained(checkpoint=f"checkpoints/{train.spec.attempt_id}", seconds=1.0)
        ended = lease_ended(train, "its container is gone"), attempt_ended(train, outcome)
        self._loop.step([Outcome(train.command_id, ended)], AT)
