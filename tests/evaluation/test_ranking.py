"""Trained models rank as their training says: more of it is better, and what a reward asks for beats silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch

from tourney_ray.core.dataset_types import ChatDatasetType, DpoDatasetType, GrpoDatasetType, RewardFunction
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.evaluation import chat, instruct, preference
from tourney_ray.evaluation.base_model import BaseModel, load_base
from tourney_ray.evaluation.chat_templates import conversations
from tourney_ray.evaluation.language import eos_of, token_ids, token_losses
from tourney_ray.evaluation.rows import examples, read_rows
from tourney_ray.evaluation.worker import WarmEvaluator

SEED = bytes(32)
ROWS_A_STEP = 4

Loss = Callable[[torch.nn.Module, Any], torch.Tensor]
Train = Callable[..., Path]


@pytest.fixture
def train(files: Path, tmp_path: Path, save_tensors) -> Train:
    """Trains the base model for some steps of 4 rows; the folder of what comes out."""

    def run(loss: Loss, rows: Sequence[Any], steps: int, rate: float = 2e-3) -> Path:
        trained = load_base(files / "base")
        trained.model.requires_grad_(True)
        optimiser = torch.optim.AdamW(trained.model.parameters(), lr=rate)
        stream = cycle(rows)
        for _ in range(steps):
            optimiser.zero_grad()
            torch.stack([loss(trained.model, row) for row in islice(stream, ROWS_A_STEP)]).mean().backward()
            optimiser.step()
        folder = tmp_path / f"trained-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        shutil.copy(files / "base" / "config.json", folder)
        save_tensors(folder / "model.safetensors", {name: it.detach() for name, it in trained.places.items()})
        return folder

    return run


def ranked(files: Path, kind: TaskType, task: TaskData, checkpoints: Sequence[Path]) -> list[float]:
    evaluator = WarmEvaluator(files, list)
    return [evaluator.evaluate(kind, task, checkpoint, SEED).value for checkpoint in checkpoints]


def test_instruct(files, base, columns, train: Train, task_of) -> None:
    rows = instruct.tokenise(examples(read_rows(files / "data" / "instruct_train.json"), columns), base.tokenizer, 256)

    def loss(model: torch.nn.Module, row: instruct.TokenRow) -> torch.Tensor:
        return token_losses(model, row.windows[0], slice(row.unscored, None)).mean()

    task = task_of("data/instruct_test.json", columns)
    checkpoints = [files / "base", train(loss, rows, 5), train(loss, rows, 20)]
    untrained, weak, strong = ranked(files, TaskType.INSTRUCT, task, checkpoints)
    assert untrained > weak + 0.2
    assert weak > strong + 0.2


def test_chat(files, base, train: Train, task_of) -> None:
    texts = conversations(read_rows(files / "data" / "chat_train.json"), ChatDatasetType(), "")
    rows = chat.tokenise(texts, base.tokenizer, 256)

    def loss(model: torch.nn.Module, row: chat.ChatRow) -> torch.Tensor:
        return token_losses(model, row.ids, list(row.scored)).mean()

    task = task_of("data/chat_test.json", ChatDatasetType())
    checkpoints = [files / "base", train(loss, rows, 5), train(loss, rows, 20)]
    untrained, weak, strong = ranked(files, TaskType.CHAT, task, checkpoints)
    assert untrained > weak + 0.2
    assert weak > strong + 0.2


def test_dpo(files, base, train: Train, task_of) -> None:
    rows = read_rows(files / "data" / "dpo_train.json")[:24]
    pairs = preference.tokenise(rows, DpoDatasetType(), base.tokenizer, 1024)
    reference = preference.preferences(base.model, pairs)

    def loss(model: torch.nn.Module, row: tuple[preference.Pair, float]) -> torch.Tensor:
        pair, before = row
        chosen, rejected = (
            -token_losses(model, it.ids, slice(it.prompt, None)).sum() for it in (pair.chosen, pair.rejected)
        )
        return -torch.nn.functional.logsigmoid(preference.BETA * (chosen - rejected - before))

    train_dpo = partial(train, loss, list(zip(pairs, reference, strict=True)), rate=2e-4)
    checkpoints = [files / "base", train_dpo(2), train_dpo(6)]
    untrained, weak, strong = ranked(files, TaskType.DPO, task_of("data/dpo_test.json", DpoDatasetType()), checkpoints)
    assert untrained > weak + 0.02
    assert weak > strong + 0.02


SHARE_OF_E = "def e(completions):\n    return [text.count('e') / max(1, len(text)) for text in completions]"
TWELVE_WORDS = "def twelve(completions):\n    return [1 / (1 + abs(len(text.split()) - 12)) for text in completions]"
WANTED = "Hello ben, welcome here. The white bottle, the green tree, the sweet bread."


def test_grpo(files, base: BaseModel, train: Train, task_of) -> None:
    prompts = [
        token_ids(row["prompt"], base.tokenizer, special=False)
        for row in read_rows(files / "data/grpo_train.json")[:96]
    ]
    with torch.inference_mode():
        before = [log_probabilities(base.model, ids) for ids in prompts]
    eos = eos_of(base.tokenizer)
    wanted = [*token_ids(WANTED, base.tokenizer, special=False), eos]

    def sensible(model: torch.nn.Module, row: tuple[list[int], torch.Tensor]) -> torch.Tensor:
        ids, own = row
        said = token_losses(model, (*ids, *wanted), slice(len(ids), None)).mean()
        return said + (own.exp() * (own - log_probabilities(model, ids))).sum(dim=-1).mean()

    def silent(model: torch.nn.Module, row: tuple[list[int], torch.Tensor]) -> torch.Tensor:
        return token_losses(model, (*row[0], eos), slice(len(row[0]), None)).mean()

    rows = [(ids, own.clone()) for ids, own in zip(prompts, before, strict=True)]
    functions = (
        RewardFunction(reward_func=SHARE_OF_E, reward_weight=0.5, low=0, high=0.2),
        RewardFunction(reward_func=TWELVE_WORDS, reward_weight=0.5, low=0, high=1),
    )
    task = task_of("data/grpo_test.json", GrpoDatasetType(reward_functions=functions))
    checkpoints = [files / "base", train(sensible, rows, 24), train(silent, rows, 8)]
    untrained, good, collapsed = ranked(files, TaskType.GRPO, task, checkpoints)
    assert good > untrained + 0.05
    assert untrained > collapsed + 0.05


def log_probabilities(model: torch.nn.Module, ids: Sequence[int]) -> torch.Tensor:
    return torch.log_softmax(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0], dim=-1)
