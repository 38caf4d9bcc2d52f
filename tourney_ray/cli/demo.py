"""`tourney demo`: a whole tournament on one machine: sample miners, real HTTP, git, Ray, training and losses."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from tourney_ray.config import Settings, load_settings
from tourney_ray.core.models import Miner, TournamentType
from tourney_ray.driver.cluster import local_cluster
from tourney_ray.effects.bubblewrap import why_not
from tourney_ray.errors import NotAllowed
from tourney_ray.samples.repositories import SampleRepository, write_base_contestant, write_sample_repositories
from tourney_ray.samples.servers import sample_key, serve_samples

NODES = {"H100": 8, "A100": 2}
"""Logical GPUs of the demo's cluster."""

Model = Literal["tiny", "smollm2"]
MINERS: dict[Model, int] = {"tiny": 10, "smollm2": 2}
"""How many enter, by what they train."""

FUNDS_RAO = 1_000_000_000
"""What each sample miner has transferred: enough for several fees."""

SETTINGS = """\
# Written by `tourney demo`. A real tournament's file looks the same, without what only a demonstration needs.
name = "demo"
state = "."
types = ["{type}"]
{seed}
[registry]
miners = "miners.json"
transfers = "transfers.json"

[repositories]
allow_file = true  # the samples' repositories lie on this machine

[sandbox]
kind = "{sandbox}"
devices = "none"  # the GPUs are only counted
output_gib = 2.0
layer_gib = 2.0

[cluster]
max_trainers = {cores}  # the GPUs are only counted: one trainer per CPU core

[base_contestants.{type}]
hotkey = "{hotkey}"
coldkey = "{coldkey}"
repo = "{repo}"
commit = "{commit}"

{rules}
min_miners = {min_miners}
{kinds}"""

TINY_RULES = """\
[rules]
# The `spec` rules, but for a model of 0.0004 × 10⁹ parameters, and for minutes in place of hours.
hours_scale = 0.025
group_model_range_b = [0.0001, 4.0]
knockout_model_range_b = [0.0001, 12.0]
boss_model_range_b = [0.0001, 71.0]"""

REAL_RULES = """\
[tasks]
catalogue = "catalogue/catalogue.toml"

[rules]
# The `spec` rules, but for boss rounds without big models, and for minutes in place of hours.
hours_scale = 0.1
boss_big_model_share = 0.0"""

IMAGE_RULES = """\
[rules]
# The `spec` rules, but for minutes in place of hours. The pipelines are tiny, so the denoising loss decides.
hours_scale = 0.1"""

IMAGE_MINERS = 8
"""How many enter a tournament of images."""

WITHOUT_REWARDS = """\
# No GRPO tasks: nothing on this machine can shut their reward functions in.
knockout_task_shares = { InstructTextTask = 0.7, DpoTask = 0.3 }
boss_tasks = ["InstructTextTask", "InstructTextTask", "InstructTextTask", "DpoTask", "DpoTask", "DpoTask"]
"""


def run_demo(
    seed: int | None,
    miners: int | None,
    out: Path | None,
    sandbox: str,
    as_json: bool,
    model: Model = "tiny",
    kind: TournamentType = TournamentType.TEXT,
) -> None:
    """Hold the tournament and print it; everything started is stopped, whatever happens.

    Raises `NotAllowed` when `out` holds something already: no tournament is ever overwritten; `EngineDown` when it is
    to run in containers and there is no engine; `ConfigError` when a real model is asked for and not installed.
    """
    images = kind is TournamentType.IMAGE
    if images and model != "tiny":
        raise NotAllowed(f"{model} is a language model, images need pipelines", "leave out --model, or --type image")
    if sandbox == "docker":
        _need_base_image()
    began = time.monotonic()
    out = _fresh_folder(out)
    if model == "smollm2":
        _write_real_tasks(out / "catalogue", seed)
    if images:
        _make_pipelines()
    rules = IMAGE_RULES if images else REAL_RULES if model == "smollm2" else TINY_RULES
    count = miners or (IMAGE_MINERS if images else MINERS[model])
    samples = write_sample_repositories(out / "miners", count, kind)
    base = write_base_contestant(out / "miners", kind)
    with serve_samples(samples) as registry, local_cluster(NODES) as cluster:
        os.environ.update(cluster.environment)
        settings = _write_settings(out, registry, base, seed, sandbox, kind, rules)
        _hold(settings, cluster.address, as_json, began)


def _hold(settings: Settings, address: str, as_json: bool, began: float) -> None:
    from tourney_ray.cli.follow import follow_to_the_end
    from tourney_ray.cli.run import documents
    from tourney_ray.driver.client import connection, start
    from tourney_ray.driver.evaluator import check_evaluator
    from tourney_ray.driver.work import sandbox_warning

    check_evaluator(settings)
    if warning := sandbox_warning(settings):
        click.secho(warning, err=True, bold=True)
    with connection(address, divert=as_json):
        driver = start(settings)
        state = follow_to_the_end(driver, settings, to_stderr=as_json)
        driver.kill()
    wall_s = time.monotonic() - began
    if as_json:
        click.echo(json.dumps(documents(state, settings, wall_s), indent=2))
    else:
        click.echo(f"{wall_s:.0f} s")


def _make_pipelines() -> None:
    """The tiny pipelines, where this machine's cache does not have them yet."""
    from tourney_ray.samples.pipelines import MODEL_TYPES, ensure_pipeline

    began = time.monotonic()
    folders = [str(ensure_pipeline(model_type)) for model_type in MODEL_TYPES]
    click.echo(f"pipelines {', '.join(folders)} after {time.monotonic() - began:.0f} s", err=True)


def _need_base_image() -> None:
    """What the samples' dockerfiles begin with; made now, unless the engine has it."""
    from tourney_ray.effects.engine.connection import connect
    from tourney_ray.samples.base_image import ensure_base_image

    with contextlib.closing(connect()) as engine:
        image = ensure_base_image(engine)
    click.echo(f"base image {image.name}, {'made' if image.made else 'found'} in {image.seconds:.0f} s", err=True)


def _fresh_folder(out: Path | None) -> Path:
    folder = out or Path("build") / f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    hint = "give --out a folder that is new: no tournament is overwritten"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        filled = any(folder.iterdir())
    except OSError as error:
        raise NotAllowed(f"{folder} cannot be the demo's folder: {error.strerror}", hint) from error
    if filled:
        raise NotAllowed(f"{folder} is not empty", hint)
    return folder.resolve()


def _write_real_tasks(folder: Path, seed: int | None) -> None:
    """A catalogue of the real model, converted where this machine's cache does not have it yet, and of puzzles."""
    from tourney_ray.samples.puzzles import write_puzzles
    from tourney_ray.samples.smollm2 import ensure_smollm2

    began = time.monotonic()
    real = ensure_smollm2()
    write_puzzles(folder, real, secrets.randbelow(2**31) if seed is None else seed)
    click.echo(f"model {real} and puzzles after {time.monotonic() - began:.0f} s", err=True)


def _write_settings(
    out: Path,
    registry: Sequence[Miner],
    base: SampleRepository,
    seed: int | None,
    sandbox: str,
    kind: TournamentType,
    rules: str,
) -> Settings:
    (out / "miners.json").write_text(json.dumps([miner.model_dump() for miner in registry], indent=2))
    transfers = [{"id": f"demo-{m.coldkey}", "coldkey": m.coldkey, "rao": FUNDS_RAO} for m in registry]
    (out / "transfers.json").write_text(json.dumps(transfers, indent=2))
    path = out / "tournament.toml"
    unrewarded = kind is TournamentType.TEXT and why_not()
    text = SETTINGS.format(
        type=kind.value,
        seed="" if seed is None else f"seed = {seed}  # public: nothing is at stake here\n",
        sandbox=sandbox,
        cores=max(1, len(os.sched_getaffinity(0))),
        hotkey=sample_key(base.name, "hotkey"),
        coldkey=sample_key(base.name, "coldkey"),
        repo=base.path.as_uri(),
        commit=base.commit,
        rules=rules,
        min_miners=min(8, len(registry)),
        kinds=WITHOUT_REWARDS if unrewarded else "",
    )
    path.write_text(text, encoding="utf-8")
    return load_settings(path)
