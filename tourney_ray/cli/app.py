"""The command line. Heavy imports wait until a command needs them; errors for people are one line and a hint."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import click

from tourney_ray import __version__
from tourney_ray.cli.acts import cancel, fence, reopen, retry
from tourney_ray.cli.artifacts import checkout, provenance
from tourney_ray.cli.gc import gc
from tourney_ray.cli.images import images
from tourney_ray.cli.logs import logs
from tourney_ray.cli.machines import check_cluster, check_host
from tourney_ray.core.models import TournamentType
from tourney_ray.errors import TourneyError, UserError
from tourney_ray.evaluation.kinds import KINDS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tourney")
def cli() -> None:
    """Training tournaments on a Ray cluster: draw, train, evaluate, decide, and be able to prove it."""


@cli.command()
@click.option("--seed", type=int, default=None, help="Derive all draws and data from this number, to repeat a demo.")
@click.option(
    "--miners", type=click.IntRange(2, 64), default=None, help="Sample miners that enter; 10, or 2 on smollm2."
)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for the journal and checkpoints.")
@click.option(
    "--sandbox",
    type=click.Choice(["auto", "docker", "bubblewrap", "process"]),
    default="auto",
    show_default=True,
    help="What the sample trainers run in; docker builds and runs them as it would strangers' code.",
)
@click.option(
    "--model",
    type=click.Choice(["tiny", "smollm2"]),
    default="tiny",
    show_default=True,
    help="What is trained; smollm2 is a real model of 135 million parameters (extra demo-real), about half an hour.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; progress goes to stderr.")
@click.option("--type", "kind", type=click.Choice(["text", "image"]), default="text", show_default=True)
def demo(kind: str, **options: Any) -> None:
    """Hold a whole tournament on this machine, with sample miners and real training."""
    from tourney_ray.cli.demo import run_demo

    run_demo(kind=TournamentType(kind), **options)


@cli.command()
@click.argument("settings", type=click.Path(path_type=Path))
@click.option("--address", default=None, help="Ray cluster; default: the file's, else the one this job runs in.")
@click.option("--detach", is_flag=True, help="Return once the driver runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end; progress goes to stderr.")
def run(settings: Path, address: str | None, detach: bool, as_json: bool) -> None:
    """Hold the tournaments of a SETTINGS file on a Ray cluster, or follow them where they run already."""
    from tourney_ray.cli.run import run_tournaments

    run_tournaments(settings, address, detach, as_json)


@cli.command()
@click.option("--address", default="auto", show_default=True, help="Ray cluster.")
@click.option("--name", default="tourney", show_default=True, help="Name of the driver.")
@click.argument("sql")
def query(address: str, name: str, sql: str) -> None:
    """Print the rows of one SELECT over a running driver's tables, a JSON document a line."""
    from tourney_ray.driver.client import connection, find

    with connection(address):
        table = find(name).query(sql)
    for row in table.to_pylist():
        click.echo(json.dumps(row, default=str))
    if table.schema.metadata:
        click.echo(f"note: cut after {table.num_rows} rows", err=True)


@cli.command()
@click.option("--address", default="auto", show_default=True, help="Ray cluster.")
@click.option("--name", default="tourney", show_default=True, help="Name of the driver.")
@click.argument("target", type=click.Path(path_type=Path))
def snapshot(address: str, name: str, target: Path) -> None:
    """Copy a running driver's database to TARGET, a new file on the head node, for notebooks and DuckDB's own shell."""
    from tourney_ray.driver.client import connection, find

    with connection(address):
        where = find(name).call("snapshot", target.absolute())
    click.echo(where)


@cli.command()
@click.option("--address", default="auto", show_default=True, help="Ray cluster.")
@click.option("--name", default="tourney", show_default=True, help="Name of the driver.")
def stop(address: str, name: str) -> None:
    """Stop a driver. Its journal stays; `tourney run` with the same settings starts what trained once more."""
    from tourney_ray.driver.client import connection, find

    with connection(address):
        find(name).kill()
    click.echo(f"driver {name} is stopped")


@cli.command()
@click.argument("journal", type=click.Path(path_type=Path))
def audit(journal: Path) -> None:
    """Replay a JOURNAL (folder or file), check its hash chain and recompute every draw, verdict, point and weight."""
    from tourney_ray.cli.audit import run_audit

    run_audit(journal)


@cli.command()
@click.option("--entrants", type=click.IntRange(min=8), default=None, help="Miners of a tournament; default: 8 to 14.")
@click.option("--nodes", default="2x8H100,1x4H100,2x1A100", show_default=True, help="COUNTxGPUSTYPE, comma-separated.")
@click.option("--seeds", default="0..9", show_default=True, help="A..B, both included, or one number.")
@click.option("--faults", default="all", show_default=True, help="all, none, or kinds, comma-separated.")
@click.option("--rules", "preset", default="spec", show_default=True, help="Preset of the rules.")
@click.option("--jobs", type=click.IntRange(min=1), default=None, help="Processes; default: one per core.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end.")
def simulate(as_json: bool, **options: Any) -> None:
    """Play whole tournaments in virtual time, with seeded faults and without, and check every fact of them."""
    from tourney_ray.cli.simulate import run_simulate

    run_simulate(as_json, **options)


@cli.command()
@click.argument("settings", type=click.Path(path_type=Path))
@click.option("--cluster", type=click.Path(path_type=Path), help="Cluster file; default: cluster.yaml beside SETTINGS.")
@click.option("--nodes", default=None, help="Instead of a cluster file: COUNTxGPUSTYPE, comma-separated.")
@click.option("--entrants", type=click.IntRange(min=2), default=None, help="Default: all miners of the registry.")
@click.option("--prices", type=click.Path(path_type=Path), help="Your prices, as in docs/prices.example.toml.")
@click.option("--seeds", type=click.IntRange(min=1), default=20, show_default=True, help="How many rehearsals.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plan(settings: Path, as_json: bool, **options: Any) -> None:
    """Say what the tournaments of a SETTINGS file will take: trainings, GPU-hours, time, cost, what would not fit."""
    from tourney_ray.cli.plan import run_plan

    run_plan(settings, as_json, **options)


@cli.command()
@click.option("--kind", required=True, help=f"Kind of task: {', '.join(KINDS)}.")
@click.option("--base", required=True, type=click.Path(path_type=Path), help="Folder of the base model.")
@click.option("--checkpoint", required=True, type=click.Path(path_type=Path), help="Folder of the trained model.")
@click.option("--rows", required=True, type=click.Path(path_type=Path), help="JSON file of the test rows.")
@click.option("--dataset-type", default=None, help="JSON document, or a file of one: which columns are what.")
@click.option("--sequence-len", type=click.IntRange(min=1), default=None, help="Longest row, tokens.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="What sampled kinds draw from.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as one JSON document.")
@click.option("--no-sandbox", "trusted", is_flag=True, help="Read the checkpoint without bubblewrap: if you trust it.")
@click.option("--shut-in", is_flag=True, hidden=True)
def evaluate(as_json: bool, trusted: bool, shut_in: bool, **options: Any) -> None:
    """Compute the metric of a checkpoint, as the tournament does: shut in, since the checkpoint may be hostile."""
    if not (trusted or shut_in):
        from tourney_ray.cli.shut_in import evaluate_shut_in

        sys.exit(evaluate_shut_in(options | {"json": as_json}))
    from tourney_ray.cli.evaluate import run_evaluate
    from tourney_ray.evaluation.worker import Question

    run_evaluate(as_json, shut_in, Question(**options))


for _command in (cancel, retry, reopen, fence, images, gc, checkout, provenance, logs, check_cluster, check_host):
    cli.add_command(_command)


def main() -> None:
    """Run the command line: exit 0, 1 for a difference or a defect, 2 for what the user can mend, 130 for Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(UserError.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except TourneyError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        sys.exit(error.exit_code)


def _interrupt(_signal: int, _frame: object) -> None:
    """End as on Ctrl-C, so that everything started is stopped."""
    raise KeyboardInterrupt
