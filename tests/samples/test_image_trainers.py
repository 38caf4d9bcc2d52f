"""The sample image miners at work: real trainings on the tiny pipelines, in the sandbox that is there."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders_training import training_spec
from tests.effects.builders_sandbox import nothing
from tourney_ray.core.models import TaskData, TaskType, TournamentType, Trained
from tourney_ray.effects.artifacts import ArtifactStore, checked_out
from tourney_ray.effects.sandbox import SandboxTrainer
from tourney_ray.evaluation.image.archive import read_pairs
from tourney_ray.evaluation.image.losses import losses
from tourney_ray.evaluation.image.scoring import load_base, prepare
from tourney_ray.evaluation.kinds import Test as OneTest
from tourney_ray.samples.image_tasks import SampleImageTasks
from tourney_ray.samples.repositories import (
    IMAGE_MINERS,
    sample_tree_hashes,
    write_base_contestant,
    write_sample_repositories,
)

IMAGE = TournamentType.IMAGE


def seed_for(model_type: str, root: Path) -> tuple[bytes, TaskData]:
    """The first seed whose task is on that pipeline, and the task."""
    for number in range(32):
        data = SampleImageTasks(root).prepare("task", bytes([number]) * 32)
        if data.model_id.endswith(model_type):
            return bytes([number]) * 32, data
    raise AssertionError(f"32 seeds never chose {model_type}")


def outputs_of(data: TaskData, root: Path, folder: Path) -> Path:
    """What the miner `by-stages` leaves after training on the task in a sandbox."""
    sample = write_sample_repositories(folder / "repositories", 3, IMAGE)[2]
    assert sample.name == "by-stages"
    spec = training_spec(
        data,
        attempt_id="task/by-stages/1",
        task_id="task",
        task_type=TaskType.IMAGE,
        hotkey="by-stages",
        repo=str(sample.path),
        commit=sample.commit,
        tree_hash=sample.tree_hash,
        expected_repo_name="tournament-t-task-by",
        hours_to_complete=0.2,
    )
    outcome = SandboxTrainer(root, folder / "work", sample_tree_hashes()).train(spec, sample.path, nothing)
    assert isinstance(outcome, Trained), outcome
    return checked_out(ArtifactStore(str(root / "artifacts")), outcome.checkpoint, root / "checkouts")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model_type", ["sdxl", "flux"])
def test_the_longer_it_trains_the_better_it_scores(tmp_path: Path, need: Callable[[str], str], model_type: str) -> None:
    """Base worse than a quarter of the training, and that worse than all of it, by the denoising loss."""
    need("git")
    root = tmp_path / "store"
    seed, data = seed_for(model_type, root)
    output = outputs_of(data, root, tmp_path)
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 60
    base = load_base(root / data.model_path)
    test = OneTest(root / data.test_path, data.test_sha256, data.dataset_type, None, seed)
    score = prepare(base, test)
    for stage in (15, 60):
        (tmp_path / str(stage)).mkdir()
        name = f"last-{stage:06d}.safetensors"
        (tmp_path / str(stage) / name).write_bytes((output / "checkpoints" / name).read_bytes())
    short, whole = score(tmp_path / "15"), score(tmp_path / "60")
    task = score.args[0]  # type: ignore[attr-defined] - the task made ready
    untrained = losses(base, task.test, dict(task.prompts), "denoising")
    free = math.fsum(untrained.no_text) / len(untrained.no_text)
    guided = math.fsum(untrained.text_guided) / len(untrained.text_guided)
    assert 0.25 * guided + 0.75 * free > short.value > whole.value
    assert score(output).value == whole.value
    assert whole.fine_tuned


def test_every_seed_makes_a_task_that_an_evaluator_takes(tmp_path: Path) -> None:
    chosen: set[str] = set()
    for number in range(4):
        data = SampleImageTasks(tmp_path).prepare(f"task-{number}", bytes([number]) * 32)
        chosen.add(data.model_id)
        train, test = read_pairs(tmp_path / data.dataset_path), read_pairs(tmp_path / data.test_path)
        assert (len(train), len(test)) == (data.dataset_rows, data.test_rows) == (36, 4)
        assert not {pair.picture for pair in train} & {pair.picture for pair in test}
        assert not data.test_path.startswith("datasets/")
        again = SampleImageTasks(tmp_path / "again").prepare(f"task-{number}", bytes([number]) * 32)
        assert again == data
    assert chosen == {"tourney/tiny-sdxl", "tourney/tiny-flux"}


def test_repositories_of_images_are_known_by_their_trees(tmp_path: Path, need: Callable[[str], str]) -> None:
    need("git")
    samples = [*write_sample_repositories(tmp_path, 7, IMAGE), write_base_contestant(tmp_path, IMAGE)]
    assert len({sample.tree_hash for sample in samples}) == 8
    assert {sample.tree_hash for sample in samples} <= sample_tree_hashes()
    assert all((s.path / "dockerfiles/standalone-image-trainer.dockerfile").is_file() for s in samples)
    variant = json.loads((samples[5].path / "variant.json").read_text())
    assert (samples[5].name, variant["seed"]) == ("wide-cosine-2", 5)


def test_an_image_trainer_says_what_it_cannot_do() -> None:
    given = ["--task-id", "t", "--model", "m", "--expected-repo-name", "r", "--hours-to-complete", "1"]
    words = [*given, "--dataset-zip", "x", "--model-type", "sculpture"]
    script = f"import sys; sys.path.insert(0, {str(IMAGE_MINERS / 'shared')!r}); import training; training.arguments()"
    done = subprocess.run([sys.executable, "-B", "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown model type sculpture; known: sdxl, flux" in done.stderr.splitlines()[-1]
