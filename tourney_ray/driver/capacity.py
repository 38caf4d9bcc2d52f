"""What the cluster's machines are worth to trainings: what they have, what they only claim, what none can ever have.

Knows no Ray: it judges what Ray says of nodes, and what the cluster file says of machines that could be started.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tourney_ray.config import Settings
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.nodes import Node
from tourney_ray.core.sizes import check_suitable_gpus
from tourney_ray.driver.asking import Bundle, Held, Machines, asked
from tourney_ray.driver.task_source import known_sizes
from tourney_ray.effects.cluster_file import GPU_TYPES, MACHINE, ClusterFile, read_cluster_file
from tourney_ray.errors import ConfigError
from tourney_ray.report.demands import demands, misfits


@dataclass(frozen=True, slots=True)
class Seen:
    """The nodes of a cluster with the GPUs that may be used there, and those of them that claim too much."""

    nodes: tuple[Node, ...] = ()
    lies: dict[str, str] = field(default_factory=dict[str, str])
    """By node: what is wrong with its claim, what is done about it, and how to mend it."""
    machines: dict[str, str] = field(default_factory=dict[str, str])
    """By node: the label of its kind of machine, where it has one."""


def seen_nodes(found: Sequence[Mapping[str, Any]]) -> Seen:
    """What `ray.nodes()` says of living nodes, believed only as far as Ray could hand the GPUs out.

    A training asks for `H100` and for as many of `GPU`, and only the latter have numbers. A node that says it has more
    of the first is used up to the second; where several types share too few, nobody can tell whose they are: none is.
    """
    seen = Seen(tuple(Node(n["NodeID"], _usable(n["Resources"])) for n in found))
    for n, node in zip(found, seen.nodes, strict=True):
        if label := n.get("Labels", {}).get(MACHINE):
            seen.machines[node.node_id] = label
        claimed, counted = _claimed(n["Resources"]), int(n["Resources"].get("GPU", 0))
        if node.gpus != claimed:
            seen.lies[node.node_id] = _lie(node, claimed, counted)
        elif counted and not claimed:
            seen.lies[node.node_id] = _typeless(node, counted)
    return seen


PATIENCE = timedelta(minutes=15)
"""How long a machine may take to come before narrow trainings take the wide nodes that are there."""

GIVEN_UP = timedelta(hours=1)
"""After that it is asked for once more."""

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves the cluster file on the head."""


def cluster_file(settings: Settings) -> Path | None:
    """The file that the cluster's machines are started from: the one that is named, else what `ray up` left here."""
    bootstrap = BOOTSTRAP.expanduser()
    return settings.cluster.file or (bootstrap if bootstrap.exists() else None)


class Outlook:
    """What the cluster may become, by the file that its machines are started from."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read_at = -1
        self._machines: ClusterFile | None = None
        self._broken = ""
        self._since: dict[str, tuple[datetime, int]] = {}
        """Since when more machines of a kind are asked for than there are, and how many there were then."""
        self._coming: frozenset[str] | None = None
        """Names of the kinds of which another one may come, as of the last asking; None before it."""

    def ask(
        self, demand: Sequence[GpuRequirement], seen: Seen, held: Iterable[Held], unfit: Collection[str], now: datetime
    ) -> Counter[Bundle]:
        """What to ask Ray's autoscaler for; all of the demand, on any machine, where no file says what there may be.

        A kind of machine that was asked for and did not come for so long is given up: for an hour, until one like it
        comes, or until nothing is asked for any more.
        """
        file = self._file()
        if file is None:
            return Counter({Bundle(((need.gpu_type, need.gpus),)): count for need, count in Counter(demand).items()})
        machines = Machines(file, seen.nodes, seen.machines, unfit)
        there = machines.count()
        self._since = {
            name: (since, min(before, there[name]))
            for name, (since, before) in self._since.items()
            if demand and there[name] <= before and now - since < PATIENCE + GIVEN_UP
        }
        given_up = {name for name in self._since if self._is_given_up(name, now)}
        told = asked(demand, held, replace(machines, given_up=given_up))
        awaited = {name: since for name, since in self._since.items() if name in told.kinds | given_up}
        self._since = {name: (now, there[name]) for name in told.kinds} | awaited
        self._coming = told.coming
        return told.bundles

    def still(self, seen: Seen, now: datetime) -> tuple[tuple[str, int], ...] | None:
        """GPU type and count of the machines that may still be started and are expected to come; None: no file says."""
        file = self._file()
        if file is None:
            return None
        free = Machines(file, seen.nodes, seen.machines).left()
        coming = {name for name in free if free[name]} if self._coming is None else self._coming
        kinds = [kind for kind in file.node_types if kind.name in coming and not self._is_given_up(kind.name, now)]
        return tuple((gpu_type, gpus) for kind in kinds for gpu_type, gpus in kind.gpus.items())

    def _is_given_up(self, kind: str, now: datetime) -> bool:
        return kind in self._since and now - self._since[kind][0] >= PATIENCE

    def _file(self) -> ClusterFile | None:
        """What the file says by now; None where there is none, or it cannot be read."""
        if self._path is not None:
            self._refresh(self._path)
        return self._machines

    def shortages(self, demand: Sequence[GpuRequirement], nodes: Sequence[Node]) -> dict[str, str]:
        """By requirement, why it will never be met; nothing where no file says what machines there may be.

        The file is read again whenever it has changed, as `ray up` changes it. One that cannot be read is told of.
        """
        if self._path is None:
            return {}
        self._refresh(self._path)
        if self._machines is None:
            return {"cluster.file": self._broken}
        return shortages(demand, nodes, self._machines, self._path)

    def _refresh(self, path: Path) -> None:
        changed_at = path.stat().st_mtime_ns if path.exists() else 0
        if changed_at == self._read_at:
            return
        self._read_at = changed_at
        try:
            self._machines, self._broken = read_cluster_file(path), ""
        except ConfigError as error:
            self._machines, self._broken = None, f"{error.message}; {error.hint}"


def shortages(
    demand: Sequence[GpuRequirement], nodes: Sequence[Node], machines: ClusterFile, path: Path
) -> dict[str, str]:
    """By requirement of the demand that neither a node nor a kind of machine of the file can hold: what to do."""
    lacking: dict[str, str] = {}
    for need, trainings in Counter(demand).items():
        if can_hold(need, machines) or any(check_suitable_gpus(need, node.gpus) for node in nodes):
            continue
        wanted = f"{need.gpus}×{need.gpu_type}"
        whose = "1 training waits" if trainings == 1 else f"{trainings} trainings wait"
        lacking[f"needs.{wanted}"] = (
            f"no machine of {path} can ever have {wanted} on one node: {whose} in vain; "
            f"add a node type with {wanted} to the cluster file and run `ray up` with it again"
        )
    return lacking


def can_hold(need: GpuRequirement, machines: ClusterFile) -> bool:
    """Whether the autoscaler could start a machine with so many GPUs."""
    return machines.max_workers > 0 and any(
        k.max_workers > 0 and check_suitable_gpus(need, k.gpus) for k in machines.node_types
    )


def check_capacity(settings: Settings) -> None:
    """Refuse tournaments that can draw what no machine of the cluster file could train: it would wait for ever.

    Without a file nothing is known, and nothing refused. Raises `ConfigError`, before anyone pays.
    """
    path = cluster_file(settings)
    if path is None:
        return
    machines = read_cluster_file(path)
    titled = settings.types if settings.endless else settings.base_contestants
    wanted = demands(settings.types, titled, settings.rules, known_sizes(settings))
    unfit = misfits(wanted, [k.gpus for k in machines.node_types if min(k.max_workers, machines.max_workers)])
    if unfit:
        raise ConfigError(
            f"no machine of {path} could train what may be drawn: {'; '.join(map(str, unfit))}",
            "add such a node type and run `ray up` with it again, or change types and rules",
        )


def _claimed(resources: Mapping[str, float]) -> dict[str, int]:
    return {kind: int(count) for kind, count in resources.items() if kind in GPU_TYPES and count >= 1}


def _usable(resources: Mapping[str, float]) -> dict[str, int]:
    claimed, counted = _claimed(resources), int(resources.get("GPU", 0))
    if sum(claimed.values()) <= counted:
        return claimed
    return {kind: counted for kind in claimed} if len(claimed) == 1 and counted else {}


def _typeless(node: Node, counted: int) -> str:
    types = " or ".join(f"--resources='{{\"{kind}\": {counted}}}'" for kind in sorted(GPU_TYPES, reverse=True))
    mend = f"start Ray there with {types}, or with --num-gpus=0 where nothing is to be trained"
    return f"node {node.node_id} has {counted} GPUs of no type: none of them is used; {mend}"


def _lie(node: Node, claimed: Mapping[str, int], counted: int) -> str:
    claim = " and ".join(f"{count}×{kind}" for kind, count in sorted(claimed.items()))
    used = "none of them is used" if not node.gpus else f"{counted} are used"
    mend = f"start Ray there with --num-gpus={sum(claimed.values())} if it has them, else with fewer in --resources"
    return f"node {node.node_id} claims {claim}, but Ray counts {counted} GPUs there: {used}; {mend}"
