"""What exists in a simulation whether or not a driver does, and how word reaches whoever is the driver then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from tourney_ray.core import events as e
from tourney_ray.core.state import State, Training
from tourney_ray.driver.loop import Outcome
from tourney_ray.simulation.clock import VirtualClock
from tourney_ray.simulation.cluster import VirtualCluster
from tourney_ray.simulation.faults import Faults
from tourney_ray.simulation.miners import Script

MOMENT_S = 1.0
"""How long it takes for word to arrive, and for what needs no time."""


@dataclass
class World:
    """What exists whether or not a driver does."""

    clock: VirtualClock
    cluster: VirtualCluster
    script: Script
    faults: Faults
    broken: list[str]
    """Promises that the driver did not keep."""
    leased: dict[str, e.AttemptStarted] = field(default_factory=dict[str, e.AttemptStarted])
    """Intents whose GPUs are leased, by attempt, as is durable in the journal, whatever a driver thinks."""
    builds: dict[str, int] = field(default_factory=dict[str, int])
    """How often an image was built, by tree: each has an id of its own."""
    driver: Owner | None = None
    """The life that has the driver's name now; None between two."""


class Owner(Protocol):
    """A driver's life, as what it started sees it."""

    @property
    def alive(self) -> bool:
        """Whether it still is."""
        ...

    @property
    def state(self) -> State:
        """What its journal says."""
        ...

    def hear(self, outcome: Outcome) -> None:
        """Take an outcome in."""
        ...


def send(world: World, owner: Owner, outcome: Outcome) -> None:
    """Let the driver hear of it, once or twice, soon or late; progress reaches whoever has the name by then."""

    def arrive() -> None:
        listener = owner if outcome.done else world.driver
        if listener and listener.alive:
            listener.hear(outcome)

    for delay_s in world.faults.delays(MOMENT_S):
        world.clock.after(delay_s, arrive)


def training_of(state: State, tournament_id: str, task_id: str, hotkey: str) -> Training:
    """The training that a command is about."""
    return state.tournaments[tournament_id].tasks[task_id].trainings[hotkey]
