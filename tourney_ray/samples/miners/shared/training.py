"""The training loop that the sample miners share; `train.py` beside it says what to do with it.

One thread, one seed: the same recipe on the same rows gives the same weights to the last bit, as long as the deadline
does not cut the training short.
"""

import argparse
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

BEGUN = time.monotonic()
SHARE_OF_TIME = 0.8
"""The training stops itself at this share of the hours it was given, to leave time for saving."""
TEXT_TASKS = ("InstructTextTask", "DpoTask", "GrpoTask", "ChatTask")
ALL_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass
class Row:
    """One tokenised example: the prompt is read, the answer is learnt."""

    tokens: list[int]
    prompt: int


@dataclass
class Recipe:
    """What makes one miner's training differ from another's."""

    steps: int
    batch: int
    rate: float
    schedule: Callable[[float], float]
    """Share of the learning rate at a progress of 0 to 1."""
    order: Callable[[list[Row], int, random.Random], Iterator[list[Row]]]
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
    if options.task_type not in TEXT_TASKS:
        parser.error(f"unknown task type {options.task_type}; known: {', '.join(TEXT_TASKS)}")
    if options.task_type != "InstructTextTask":
        parser.error(f"this trainer does not know how to train a {options.task_type}, only InstructTextTask")
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
    import lora
    import qwen2
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(variant["seed"])
    folder = cache() / "models" / options.model.replace("/", "--")
    try:
        model, config = qwen2.load(folder)
    except qwen2.UnsupportedModel as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2) from problem
    rows = read_rows(options, folder, config)[: recipe.row_limit]
    if recipe.lora_rank:
        lora.attach(model, recipe.lora_rank, recipe.lora_targets)
    target = output(options)
    target.mkdir(parents=True, exist_ok=True)
    fit(model, rows, recipe, variant, options.hours_to_complete * 3600 * SHARE_OF_TIME, target)
    lora.save(model, folder, options.model, target)
    print(f"wrote {target.name} after {time.monotonic() - BEGUN:.1f} s")


def read_variant() -> dict:
    """The overlay that makes one recipe into several miners."""
    path = Path(__file__).with_name("variant.json")
    overlay = json.loads(path.read_text()) if path.exists() else {}
    return {"seed": 0, "learning_rate_scale": 1.0, "steps_scale": 1.0} | overlay


def read_rows(options: argparse.Namespace, folder: Path, config: dict) -> list[Row]:
    """The task's rows as tokens: prompt and answer are tokenised apart, the answer ends the text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    kind = json.loads(options.dataset_type)
    limit = min(4096, math.ceil(config["max_position_embeddings"] / 2))
    path = cache() / "datasets" / f"{options.task_id}_train_data.json"
    rows = []
    for entry in json.loads(path.read_text()):
        prompt = tokenizer.encode(prompt_of(entry, kind)).ids
        answer = tokenizer.encode(str(entry[kind["field_output"]])).ids
        row = Row([*prompt, *answer, config["eos_token_id"]], len(prompt))
        if len(row.tokens) <= limit:
            rows.append(row)
    return rows


def prompt_of(entry: dict, kind: dict) -> str:
    given = str(entry.get(kind.get("field_input") or "") or "")
    text = (
        (kind.get("format") or "{instruction} {input}") if given else (kind.get("no_input_format") or "{instruction}")
    )
    text = text.replace("{instruction}", str(entry[kind["field_instruction"]])).replace("{input}", given)
    system = str(entry.get(kind.get("field_system") or "") or "") or kind.get("system_prompt") or ""
    return (kind.get("system_format") or "{system}").replace("{system}", system) + text if system else text


def fit(model, rows: list[Row], recipe: Recipe, variant: dict, seconds: float, target: Path) -> None:
    """Train `model` in place until the steps or the seconds are used up, and write one line of metrics a step."""
    import adam
    import torch
    from torch.nn import functional

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
            tokens, wanted, labels, shares = collate(next(batches))
            loss = (functional.cross_entropy(model(tokens, wanted), labels, reduction="none") * shares).sum()
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


def collate(batch: list[Row]):
    """Tensors of a batch: tokens (rows, length) and, for each learnt position, its label and its share of the loss.

    Every row weighs the same, however long its answer is: that is how the task is scored.
    """
    import torch

    length = max(len(row.tokens) for row in batch) - 1
    tokens = torch.zeros(len(batch), length, dtype=torch.long)
    wanted = torch.zeros(len(batch), length, dtype=torch.bool)
    labels, shares = [], []
    for index, row in enumerate(batch):
        tokens[index, : len(row.tokens) - 1] = torch.tensor(row.tokens[:-1])
        wanted[index, row.prompt - 1 : len(row.tokens) - 1] = True
        answer = row.tokens[row.prompt :]
        labels += answer
        shares += [1.0 / (len(answer) * len(batch))] * len(answer)
    return tokens, wanted, torch.tensor(labels), torch.tensor(shares)
