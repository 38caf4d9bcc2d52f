"""A virtual cluster: machines with numbered GPUs, and containers on them that end when their time has come.

Guarantee: it keeps the truth that a journal only claims. A container that finds no free GPU, or a lease that ends while
its container runs, is a broken promise of the driver's, and is remembered here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tourney_ray.core import leases
from tourney_ray.core.models import Failed, Trained, TrainingSpec
from tourney_ray.core.nodes import Node
from tourney_ray.core.staging import put
from tourney_ray.errors import ConfigError

NODE_SPEC = re.compile(r"(?P<count>[1-9]\d*)x(?P<gpus>[1-9]\d*)(?P<kind>H100|A100)")


@dataclass(frozen=True, slots=True)
class Container:
    """One attempt's code on a machine."""

    attempt_id: str
    gpu_type: str
    indices: tuple[int, ...]
    image_id: str
    ends_at: float
    """Virtual seconds."""
    outcome: Trained | Failed
    """What it leaves; known from the start to nobody but the simulation."""


@dataclass(frozen=True, slots=True)
class Staged:
    """For whom a machine holds the data of a training, and the image that it is to run."""

    tournament_id: str
    task_id: str
    hotkey: str
    image_id: str


@dataclass
class Machine:
    """A GPU node."""

    node_id: str
    gpus: dict[str, int]
    lies: dict[str, leases.Staged]
    """Of all machines of the cluster, by task: what lies where."""
    up: bool = True
    """Whether the cluster sees it. What runs on a machine that is cut off goes on."""
    watchers: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called when it is lost: Ray tells everybody who watches something on it."""
    engine_up: bool = True
    """Whether its container engine starts anything."""
    images: dict[str, str] = field(default_factory=dict[str, str])
    """Ids of what was built or brought here, by tree."""
    staged: dict[str, Staged] = field(default_factory=dict[str, Staged])
    """By training."""
    containers: dict[str, Container] = field(default_factory=dict[str, Container])
    """What runs, by attempt; an exited one is removed by whoever watches it."""
    outcomes: dict[str, Trained | Failed] = field(default_factory=dict[str, Trained | Failed])
    """Stored beside the output of attempts that have ended here."""
    removed: set[str] = field(default_factory=set[str])
    """Attempts that may not start here any more."""
    node: Node = field(init=False)
    """As Ray would list it."""

    def __post_init__(self) -> None:
        """It is looked at in every step of every driver."""
        self.node = Node(self.node_id, self.gpus)

    def free(self, gpu_type: str) -> list[int]:
        """Numbers of the GPUs that no container has."""
        taken = {i for c in self.containers.values() if c.gpu_type == gpu_type for i in c.indices}
        return [i for i in range(self.gpus.get(gpu_type, 0)) if i not in taken]

    def go(self, *, power: bool) -> None:
        """Be lost: cut off while containers go on, or without power, so that everything on it is gone."""
        self.up = False
        if not power:
            self.containers.clear()
            self.outcomes.clear()
            self.images.clear()
            for key, staged in self.staged.items():
                self.lies[staged.task_id] = put(self.lies[staged.task_id], key, self.node_id, None)
            self.staged.clear()

    def stage(self, key: str, staged: Staged) -> None:
        """Put image and data of a training here."""
        self.staged[key] = staged
        self.lies[staged.task_id] = put(self.lies.get(staged.task_id, {}), key, self.node_id, staged.image_id)

    def holds(self, spec: TrainingSpec) -> bool:
        """Whether image and data of that attempt lie here."""
        held = Staged(spec.tournament_id, spec.task_id, spec.hotkey, spec.image_id)
        return self.staged.get(f"{spec.task_id}.{spec.hotkey}") == held


@dataclass
class VirtualCluster:
    """All machines."""

    machines: dict[str, Machine] = field(default_factory=dict[str, Machine])
    lies: dict[str, leases.Staged] = field(default_factory=dict[str, leases.Staged])
    """By task: what lies where."""

    def add(self, name: str, gpus: Mapping[str, int]) -> None:
        """One more machine, with so many GPUs by type."""
        self.machines[name] = Machine(name, dict(gpus), lies=self.lies)

    def seen(self) -> tuple[Node, ...]:
        """The nodes as Ray would list them."""
        return tuple([machine.node for machine in self.machines.values() if machine.up])

    def running(self, attempt_id: str) -> Machine | None:
        """The machine on which a container of that attempt is, whether or not anybody can see it."""
        return next((m for m in self.machines.values() if attempt_id in m.containers), None)


def parse_nodes(spec: str) -> VirtualCluster:
    """The cluster that `2x8H100,2x1A100` describes: so many nodes of so many GPUs; `ConfigError` if it is none."""
    cluster = VirtualCluster()
    for part in spec.split(","):
        match = NODE_SPEC.fullmatch(part.strip())
        if match is None:
            raise ConfigError(f"{part!r} describes no nodes", "write COUNTxGPUSTYPE, such as 2x8H100,1x1A100")
        for _ in range(int(match["count"])):
            cluster.add(f"node-{len(cluster.machines):02d}", {match["kind"]: int(match["gpus"])})
    return cluster
