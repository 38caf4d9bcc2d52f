"""`tourney simulate`: whole tournaments in virtual time, and whether anything in them was as it must not be."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import islice

import click

from tourney_ray.core.rules import Rules
from tourney_ray.errors import ConfigError
from tourney_ray.simulation.faults import parse_faults
from tourney_ray.simulation.run import Setting
from tourney_ray.simulation.sweep import Seed, play_seeds

SHOWN = 5
"""Violations of one seed that are printed; the JSON document has all."""


def run_simulate(
    as_json: bool, *, entrants: int | None, nodes: str, seeds: str, faults: str, preset: str, jobs: int | None
) -> None:
    """Play the seeds and print what was found; exit 1 when there is any violation."""
    setting = Setting(
        entrants=entrants or 8,
        nodes=nodes,
        faults=parse_faults(faults),
        rules=_rules(preset),
        varies=entrants is None,
    )
    began, played = time.monotonic(), list[Seed]()
    for result in play_seeds(setting, parse_seeds(seeds), jobs):
        played.append(result)
        _tell(
            result, f"tourney simulate --seeds {result.seed}..{result.seed}{_options(entrants, nodes, faults, preset)}"
        )
    _conclude(played, time.monotonic() - began, as_json)
    if any(result.violations for result in played):
        raise SystemExit(1)


def parse_seeds(words: str) -> range:
    """The seeds that `A..B` or one number names; raises `ConfigError` for anything else."""
    first, dots, last = words.partition("..")
    if not first.isdecimal() or (dots and not last.isdecimal()) or (dots and int(last) < int(first)):
        raise ConfigError(f"{words!r} names no seeds", "write A..B with A not above B, such as 0..199")
    return range(int(first), int(last or first) + 1)


def _rules(preset: str) -> Rules:
    try:
        return Rules.preset(preset)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _options(entrants: int | None, nodes: str, faults: str, preset: str) -> str:
    chosen = {"entrants": entrants, "nodes": nodes, "faults": faults, "rules": preset}
    usual = {"entrants": None, "nodes": Setting().nodes, "faults": "all", "rules": "spec"}
    return "".join(f" --{name} {value}" for name, value in chosen.items() if value != usual[name])


def _tell(result: Seed, again: str) -> None:
    if not result.violations:
        return
    click.echo(f"seed {result.seed}: {len(result.violations)} violations; again with: {again}", err=True)
    for violation in islice(result.violations, SHOWN):
        click.echo(f"  {violation}", err=True)


def _conclude(played: Sequence[Seed], wall_s: float, as_json: bool) -> None:
    violations = [{"seed": r.seed, "what": what} for r in played for what in r.violations]
    faults = {
        kind: sum(r.faults.get(kind, 0) for r in played) for kind in sorted({k for r in played for k in r.faults})
    }
    tournaments = sum(r.tournaments for r in played)
    if as_json:
        document = {
            "seeds": len(played),
            "violations": violations,
            "tournaments": tournaments,
            "faults": faults,
            "drivers": sum(r.lives for r in played),
            "facts": sum(r.facts for r in played),
            "wall_s": round(wall_s, 3),
        }
        click.echo(json.dumps(document, indent=2))
        return
    suffered = ", ".join(f"{count} {kind}" for kind, count in faults.items()) or "none"
    click.echo(f"{len(played)} seeds, {tournaments} tournaments in {wall_s:.0f} s; faults: {suffered}")
    click.echo(f"{len(violations)} violations")
