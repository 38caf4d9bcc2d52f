"""The training loop that the sample image miners share; `train.py` beside it says what to do with it.

One thread, one seed: the same recipe on the same pictures gives the same LoRA, as long as the deadline does not cut
the training short.
"""

import argparse
import io
import json
import os
import random
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BEGUN = time.monotonic()
SHARE_OF_TIME = 0.8
"""The training stops itself at this share of the hours it was given, to leave time for saving."""

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
EVERYTHING = (
    *ATTENTION,
    "net.0.proj",
    "net.2",
    "proj_in",
    "proj_out",
    "proj_mlp",
    "add_q_proj",
    "add_k_proj",
    "add_v_proj",
)


@dataclass
class Recipe:
    """What makes one miner's training differ from another's."""

    steps: int
    rate: float
    schedule: Callable[[float], float]
    """Share of the learning rate at a progress of 0 to 1."""
    rank: int = 8
    batch: int = 4
    targets: tuple[str, ...] = ATTENTION
    no_caption: float = 0.5
    """Share of the pictures that are learnt without their captions."""
    limit: int | None = None
    """Most pictures that are looked at."""
    stages: int = 0
    """Saved `last-N` every so many steps, and never a `last`; 0: the other way round."""
    names: str = "diffusers"
    """Whose names the file's tensors have: `diffusers` or `kohya`."""


def arguments() -> argparse.Namespace:
    """The command line of the contract; exits with 2 and one clear line when this trainer cannot do the task."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("task-id", "model", "dataset-zip", "model-type", "expected-repo-name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--hours-to-complete", type=float, required=True)
    options = parser.parse_args()
    if options.model_type not in ("sdxl", "flux"):
        parser.error(f"unknown model type {options.model_type}; known: sdxl, flux")
    return options


def train(recipe: Recipe) -> None:
    """Train as the command line asks and write the LoRA."""
    options = arguments()
    variant = read_variant()
    import families
    import lora
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(variant["seed"])
    cache = Path(os.environ.get("TOURNEY_CACHE", "/cache"))
    target = Path(
        os.environ.get("TOURNEY_CHECKPOINTS", "/app/checkpoints"), options.task_id, options.expected_repo_name
    )
    (target / "checkpoints").mkdir(parents=True, exist_ok=True)
    kind = {"sdxl": families.Sdxl, "flux": families.Flux}[options.model_type]
    family = kind(cache / "models" / options.model.replace("/", "--"))
    pictures = read_pictures(cache / "datasets" / f"{options.task_id}_tourn.zip", family)[: recipe.limit]
    adapted = lora.attach(family.denoiser, recipe.rank, recipe.targets)
    fit(family, pictures, adapted, recipe, variant, options.hours_to_complete * 3600 * SHARE_OF_TIME, target)
    print(f"wrote {target.name} after {time.monotonic() - BEGUN:.1f} s")


def read_variant() -> dict:
    """The overlay that makes one recipe into several miners."""
    path = Path(__file__).with_name("variant.json")
    overlay = json.loads(path.read_text()) if path.exists() else {}
    return {"seed": 0, "learning_rate_scale": 1.0, "steps_scale": 1.0} | overlay


def read_pictures(path: Path, family) -> list:
    """Latents, the caption's vectors and those of no caption, for each picture."""
    from PIL import Image

    found, nothing = [], family.words("")
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith((".txt", "/")))
        for name in names:
            picture = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            caption = archive.read(name.rsplit(".", 1)[0] + ".txt").decode().strip()
            found.append((family.latents(picture), family.words(caption), nothing))
    if not found:
        sys.exit(f"{path} holds no pictures")
    return found


def fit(family, pictures, adapted: dict, recipe: Recipe, variant: dict, seconds: float, target: Path) -> None:
    """Train the adapters until the steps or the seconds are used up, and write one line of metrics a step."""
    import lora
    import torch

    chance = random.Random(variant["seed"])
    weights = [weight for module in adapted.values() for weight in (module.lora_A, module.lora_B)]
    optimiser = torch.optim.AdamW(weights, weight_decay=0.0)
    steps = max(1, round(recipe.steps * variant["steps_scale"]))
    with (target / "metrics.jsonl").open("w") as metrics:
        for step in range(steps):
            if time.monotonic() - BEGUN > seconds:
                print(f"out of time after {step} of {steps} steps")
                break
            loss = family.loss(*batch(pictures, recipe, chance))
            optimiser.param_groups[0]["lr"] = (
                recipe.rate * variant["learning_rate_scale"] * recipe.schedule(step / steps)
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            seen = round(time.monotonic() - BEGUN, 3)
            metrics.write(json.dumps({"step": step + 1, "time": seen, "loss": round(loss.item(), 6)}) + "\n")
            if recipe.stages and (step + 1) % recipe.stages == 0:
                lora.save(adapted, family, recipe.names, target / f"checkpoints/last-{step + 1:06d}.safetensors")
    if not recipe.stages:
        lora.save(adapted, family, recipe.names, target / "checkpoints/last.safetensors")


def batch(pictures: list, recipe: Recipe, chance: random.Random):
    """Latents, words and the whole of some pictures of one size, each with its caption or without."""
    import torch

    first = chance.choice(pictures)
    alike = [picture for picture in pictures if picture[0].shape == first[0].shape]
    chosen = [chance.choice(alike) for _ in range(recipe.batch)]
    told = [nothing if chance.random() < recipe.no_caption else caption for _, caption, nothing in chosen]
    return torch.cat([latents for latents, _, _ in chosen]), *(torch.cat(part) for part in zip(*told, strict=True))
