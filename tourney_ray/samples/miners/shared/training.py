"""The training loop that the sample miners share; `train.py` beside it says what to do with it.

One thread, one seed: the same recipe on the same rows gives the same weights to the last bit, as long as the deadline
does not cut the training short.
"""

import argparse
import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

BEGUN = time.monotonic()
SHARE_OF_TIME = 0.8
"""The training stops itself at this share of the hours it was given, to leave time for saving."""
KINDS = {"InstructTextTask": "instruct", "DpoTask": "preference", "GrpoTask": "rewarded"}
"""Which file beside this one knows such tasks."""
BIG = 20_000_000
"""Parameters from which a model is trained with thin adapters only, in fewer and smaller steps."""
BIG_RATE = 1e-3
ALL_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass
class Recipe:
    """What makes one miner's training differ from another's."""

    steps: int
    batch: int
    rate: float
    schedule: Callable[[float], float]
    """Share of the learning rate at a progress of 0 to 1."""
    order: Callable[[list, int, random.Random], Iterator[list]]
    """Endless batches of a size from the rows."""
    weight_decay: float = 0.0
    lora_rank: int = 0
    """0 trains every weight."""
    lora_targets: tuple[str, ...] = ALL_PROJECTIONS
    row_limit: int | None = None
    average_from: float = 1.0
    """Progress from which the weights are averaged; 1 never averages."""
    clip: float = 1.0


def arguments() -> argparse.Namespace:
    """The command line of the contract; exits with 2 and one clear line when this trainer cannot do the task."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("task-id", "model", "expected-repo-name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--hours-to-complete", type=float, required=True)
    for name in ("dataset", "dataset-type", "task-type", "file-format", "dataset-zip", "model-type"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    if options.dataset_zip or options.model_type:
        parser.error("this trainer trains language models only, not image models")
    if options.task_type not in KINDS:
        parser.error(f"this trainer does not know how to train a {options.task_type}, only {', '.join(KINDS)}")
    if options.dataset_type is None or options.file_format != "s3":
        parser.error("--dataset-type and --file-format s3 are needed")
    return options


def cache() -> Path:
    return Path(os.environ.get("TOURNEY_CACHE", "/cache"))


def output(options: argparse.Namespace) -> Path:
    folder = Path(os.environ.get("TOURNEY_CHECKPOINTS", "/app/checkpoints"))
    return folder / options.task_id / options.expected_repo_name


def train(recipe: Recipe) -> None:
    """Train as the command line asks and write the checkpoint."""
    options = arguments()
    variant = read_variant()
    import decoder
    import lora
    import torch
    from tokenizers import Tokenizer

    torch.set_num_threads(1)
    torch.manual_seed(variant["seed"])
    folder = cache() / "models" / options.model.replace("/", "--")
    try:
        model, config = decoder.load(folder)
    except decoder.UnsupportedModel as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2) from problem
    task = importlib.import_module(KINDS[options.task_type])
    recipe = fitted(recipe, task, sum(weight.numel() for weight in model.parameters()))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    kind, end = json.loads(options.dataset_type), config["eos_token_id"]
    rows = task.rows(read_entries(options), kind, lambda text: tokenizer.encode(text).ids, config, end)
    base = lora.attach(model, recipe.lora_rank, recipe.lora_targets)
    target = output(options)
    target.mkdir(parents=True, exist_ok=True)
    objective = task.Objective(model, base, kind, tokenizer, end, variant["seed"])
    until = options.hours_to_complete * 3600 * SHARE_OF_TIME
    fit(model, objective, rows[: recipe.row_limit], recipe, variant, until, target)
    lora.save(model, folder, options.model, target)
    print(f"wrote {target.name} after {time.monotonic() - BEGUN:.1f} s")


def fitted(recipe: Recipe, task, parameters: int) -> Recipe:
    """The recipe for tasks of that kind and a model of that size."""
    changed = replace(recipe, steps=round(recipe.steps * task.SHARE_OF_STEPS), rate=recipe.rate * task.SHARE_OF_RATE)
    if parameters < BIG:
        return changed
    rank, rate = min(recipe.lora_rank or 8, 8), min(changed.rate, BIG_RATE)
    return replace(
        changed, steps=max(1, changed.steps // 3), batch=max(1, recipe.batch // 4), lora_rank=rank, rate=rate
    )


def read_variant() -> dict:
    """The overlay that makes one recipe into several miners."""
    path = Path(__file__).with_name("variant.json")
    overlay = json.loads(path.read_text()) if path.exists() else {}
    return {"seed": 0, "learning_rate_scale": 1.0, "steps_scale": 1.0} | overlay


def read_entries(options: argparse.Namespace) -> list[dict]:
    return json.loads((cache() / "datasets" / f"{options.task_id}_train_data.json").read_text())


def fit(model, objective, rows: list, recipe: Recipe, variant: dict, seconds: float, target: Path) -> None:
    """Train `model` in place until the steps or the seconds are used up, and write one line of metrics a step."""
    import adam
    import torch

    chance = random.Random(variant["seed"])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = adam.AdamW(weights, recipe.weight_decay)
    batches = recipe.order(rows, recipe.batch, chance)
    steps = max(1, round(recipe.steps * variant["steps_scale"]))
    averaged, count = [torch.zeros_like(weight) for weight in weights], 0
    with (target / "metrics.jsonl").open("w") as metrics:
        for step in range(steps):
            if time.monotonic() - BEGUN > seconds:
                print(f"out of time after {step} of {steps} steps")
                break
            loss = objective.loss(next(batches))
            loss.backward()
            rate = recipe.rate * variant["learning_rate_scale"] * recipe.schedule(step / steps)
            optimiser.step(rate, recipe.clip)
            seen = round(time.monotonic() - BEGUN, 3)
            metrics.write(json.dumps({"step": step + 1, "time": seen, "loss": round(loss.item(), 6)}) + "\n")
            metrics.flush()
            if step / steps >= recipe.average_from:
                count += 1
                with torch.no_grad():
                    torch._foreach_lerp_(averaged, weights, 1 / count)
    if count:
        with torch.no_grad():
            torch._foreach_copy_(weights, averaged)
