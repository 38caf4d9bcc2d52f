"""`tourney plan`: what a tournament will take, before anything starts and before anybody pays."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from pydantic import ValidationError

from tourney_ray.cli.plan_text import described
from tourney_ray.config import Settings, load_settings, spell_validation
from tourney_ray.core.models import TournamentType
from tourney_ray.driver.task_source import check_tasks, known_sizes
from tourney_ray.effects.cluster_file import read_cluster_file
from tourney_ray.effects.miners import MinersFile
from tourney_ray.errors import ConfigError
from tourney_ray.report.demands import demands, misfits
from tourney_ray.report.forecast import forecast
from tourney_ray.report.prices import Prices, Rented
from tourney_ray.simulation.cluster import parse_nodes
from tourney_ray.simulation.rehearsal import NodeKind, Prospect, rehearsals

CLUSTER_FILE = "cluster.yaml"
"""Looked for beside the settings when no cluster is named."""

ASSUMED = (
    "everybody enters at the first pass, and nothing fails but miners' trainings",
    "trainings take 20 to 100 % of their limit, one in five all of it; about one in five has an attempt that fails",
    "data sets have 20,000 rows; staging takes a minute, a checkpoint's evaluation two, preparing a task five",
    "all nodes are there from the start: no time to boot",
)
"""What a rehearsal knows no better. Each is said beside the numbers."""


@dataclass(frozen=True, slots=True)
class Machines:
    """Where it would be held."""

    kinds: tuple[NodeKind, ...]
    source: str
    note: str = ""
    idle_minutes: float = 0.0
    """How long one is kept that has nothing to do."""


def run_plan(
    path: Path,
    as_json: bool,
    *,
    cluster: Path | None,
    nodes: str | None,
    entrants: int | None,
    prices: Path | None,
    seeds: int,
) -> None:
    """Print what to expect of the tournaments of a settings file; exit 1 when a training fits on no node."""
    settings = load_settings(path)
    machines = _machines(path, cluster, nodes)
    if settings.tasks.catalogue is not None:
        check_tasks(settings)
    sizes = known_sizes(settings)
    table = _prices(prices, machines.kinds) if prices else None
    prospect = _prospect(settings, machines.kinds, entrants, sizes)
    titled = settings.types if settings.endless else prospect.titled
    wanted = demands(settings.types, titled, settings.rules, sizes)
    unfit = misfits(wanted, [kind.gpus for kind in machines.kinds if kind.count])
    if unfit:
        _tell_misfits(list(map(str, unfit)), machines, as_json)
        raise SystemExit(1)
    instance_of = {node: kind.instance_type for kind in machines.kinds for node in kind.node_ids()}
    rented = Rented(instance_of, machines.idle_minutes / 60)
    expected = forecast(rehearsals(prospect, seeds), table, rented)
    if as_json:
        document = _document(path, machines, prospect) | {"misfits": [], **expected.model_dump(mode="json")}
        click.echo(json.dumps(document, indent=2))
        return
    notes = [*ASSUMED, *([machines.note] if machines.note else [])]
    click.echo(described(expected, _headline(path, machines, prospect), notes))


def _machines(settings: Path, cluster: Path | None, nodes: str | None) -> Machines:
    if cluster and nodes:
        raise ConfigError("--cluster and --nodes name two clusters", "leave one of them out")
    if nodes:
        return Machines(_counted(nodes), nodes)
    found = cluster or settings.with_name(CLUSTER_FILE)
    if cluster is None and not found.exists():
        raise ConfigError(f"there is no {found}", "name the machines: --cluster FILE or --nodes 2x8H100,1x4H100")
    given = read_cluster_file(found)
    kinds = tuple(NodeKind(n.name, n.gpus, n.max_workers, n.instance_type) for n in given.node_types if n.gpus)
    most, together = given.max_workers, sum(kind.count for kind in kinds)
    note = f"max_workers allows {most} of the {together} nodes at once; here all of them are used"
    return Machines(kinds, str(found), note if most < together else "", given.idle_minutes)


def _counted(nodes: str) -> tuple[NodeKind, ...]:
    """The kinds of nodes in `2x8H100,1x4H100`."""
    kinds: dict[str, NodeKind] = {}
    for machine in parse_nodes(nodes).machines.values():
        ((gpu_type, gpus),) = machine.gpus.items()
        name = f"{gpus}x{gpu_type}"
        before = kinds.get(name, NodeKind(name, machine.gpus, 0))
        kinds[name] = replace(before, count=before.count + 1)
    return tuple(kinds.values())


def _prospect(settings: Settings, kinds: Sequence[NodeKind], entrants: int | None, sizes: tuple[int, ...]) -> Prospect:
    counts = {kind: entrants or _registered(settings, kind) for kind in settings.types}
    for kind, count in counts.items():
        if count < settings.rules.min_miners:
            raise ConfigError(
                f"{count} entrants start no {kind.value} tournament: the rules ask for {settings.rules.min_miners}",
                "plan with --entrants, or change rules.min_miners",
            )
    return Prospect(
        rules=settings.rules,
        entrants=counts,
        titled=frozenset(settings.base_contestants),
        nodes=kinds,
        sizes=sizes,
        max_trainers=settings.cluster.max_trainers,
    )


def _registered(settings: Settings, kind: TournamentType) -> int:
    """How many miners of the registry could enter: all but the one that defends."""
    base = settings.base_contestants.get(kind)
    return sum(base is None or miner.hotkey != base.hotkey for miner in MinersFile(settings.registry.miners).miners())


def _prices(path: Path, kinds: Sequence[NodeKind]) -> Prices:
    hint = "docs/prices.example.toml has every key"
    try:
        prices = Prices.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "name a table of prices that exists") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", hint) from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {spell_validation(error)}", hint) from error
    used = [kind for kind in kinds if kind.count]
    lacking = prices.lacking((gpu for kind in used for gpu in kind.gpus), (kind.instance_type for kind in used))
    if lacking:
        names = ", ".join(name or "machines without an instance type" for name in lacking)
        raise ConfigError(f"{path} has no price for {names}", "add it, or give prices per gpu_hour instead")
    return prices


def _tell_misfits(unfit: list[str], machines: Machines, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"cluster": machines.source, "misfits": unfit}, indent=2))
        return
    click.echo(f"{machines.source} cannot hold what the rules may draw:", err=True)
    for demand in unfit:
        click.echo(f"  {demand}: no node type has that", err=True)


def _headline(path: Path, machines: Machines, prospect: Prospect) -> str:
    counts = " and ".join(f"{count} entrants ({kind.value})" for kind, count in prospect.entrants.items())
    fleet = ", ".join(f"{kind.count} × {kind.name}" for kind in machines.kinds)
    return f"{path}: {counts} on {fleet}"


def _document(path: Path, machines: Machines, prospect: Prospect) -> dict[str, object]:
    fleet = [
        {"name": kind.name, "count": kind.count, "gpus": dict(kind.gpus), "instance_type": kind.instance_type}
        for kind in machines.kinds
    ]
    return {
        "settings": str(path),
        "cluster": machines.source,
        "nodes": fleet,
        "entrants": {kind.value: count for kind, count in prospect.entrants.items()},
        "assumed": [*ASSUMED, *([machines.note] if machines.note else [])],
    }
