"""What workers do to train and to evaluate, with real git and real processes: each failure with its blame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders_training import tiny_task_data, training_spec
from tests.effects.builders_repos import git, make_repo
from tests.effects.builders_sandbox import DOCKERFILE, SAVING, Told, nothing
from tourney_ray.config import Sandbox, Settings
from tourney_ray.core.models import (
    Blame,
    Failed,
    Trained,
    TrainingOutcome,
    TrainingSpec,
)
from tourney_ray.driver import work
from tourney_ray.driver.folders import carried_folder
from tourney_ray.effects.artifacts import ArtifactStore, checked_out
from tourney_ray.effects.attempt_folder import AttemptFolder
from tourney_ray.effects.ports import Place
from tourney_ray.effects.ran import Ran
from tourney_ray.effects.tree import folder_tree_hash
from tourney_ray.errors import (
    CheckpointInvalid,
    ConfigError,
    Defect,
    EngineDown,
    ImageBuildFailed,
    MinerFault,
    NodeLost,
    PlatformFault,
    StorageUnavailable,
    TrainingCrashed,
)

PLACE = Place(driver="d", node="n", gpus=8)
SAVES = SAVING + "(output / 'model.safetensors').write_bytes(b'weights')\n"


def spec(repo: Path, tree_hash: str = "") -> TrainingSpec:
    return training_spec(
        tiny_task_data(),
        attempt_id="task-1.m00.1",
        hotkey="m00",
        repo=repo.as_uri(),
        commit=git(repo, "rev-parse", "HEAD"),
        tree_hash=tree_hash or git(repo, "rev-parse", "HEAD^{tree}"),
        expected_repo_name="t-m00",
    )


@pytest.fixture
def miners_repo(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A repository whose trainer is a given script, on the list of those that may run, with the data of its task."""

    def make(script: str) -> Path:
        repo = tmp_path / "repo"
        make_repo(repo, {"dockerfiles/standalone-text-trainer.dockerfile": DOCKERFILE, "train.py": script})
        trees = frozenset({folder_tree_hash(repo)})
        monkeypatch.setattr(work, "sample_tree_hashes", lambda: trees)
        for name in ("models/org--tiny/config.json", "datasets/task-1_train_data.json"):
            path = settings.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        return repo

    return make


def failed(outcome: TrainingOutcome | Ran) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def test_a_training_leaves_its_checkpoint_in_the_store(settings: Settings, miners_repo: Callable[[str], Path]) -> None:
    started: list[bool] = []
    outcome = work.train(settings, spec(miners_repo(SAVES)), PLACE, Told(lambda: started.append(True)))
    assert isinstance(outcome, Trained), outcome
    assert started == [True]
    folder = checked_out(
        ArtifactStore(str(settings.data / "artifacts")), outcome.checkpoint, settings.data / "checkouts"
    )
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_a_shut_in_training_sees_nothing_that_was_brought_for_an_evaluator(
    settings: Settings, miners_repo: Callable[[str], Path], need: Callable[[str], str]
) -> None:
    need("bwrap")
    shut_in = settings.model_copy(update={"sandbox": Sandbox(kind="bubblewrap")})
    secrets = [carried_folder(settings) / "data" / "tests" / "rows.json", settings.data / "tests" / "rows.json"]
    for secret in secrets:
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text("[]")
    looking = "".join(f"print(pathlib.Path({str(secret)!r}).exists())\n" for secret in secrets)
    outcome = work.train(shut_in, spec(miners_repo(SAVES + looking + "raise SystemExit(3)")), PLACE, nothing)
    assert failed(outcome).log_tail.split() == ["False", "False"]


def test_an_attempt_that_has_ended_is_taken_over_and_not_run_again(
    settings: Settings, miners_repo: Callable[[str], Path]
) -> None:
    attempt, started = spec(miners_repo(SAVES)), list[bool]()
    first = work.train(settings, attempt, PLACE, nothing)
    assert work.train(settings, attempt, PLACE, Told(lambda: started.append(True))) == first
    assert started == []


def test_an_attempt_whose_watcher_was_lost_is_the_platforms_fault(
    settings: Settings, miners_repo: Callable[[str], Path]
) -> None:
    attempt = spec(miners_repo(SAVES))
    folder = AttemptFolder(settings.state / "work", attempt)
    folder.begin()
    folder.write_started([])
    outcome = failed(work.train(settings, attempt, PLACE, nothing))
    assert (outcome.blame, outcome.kind) == (Blame.PLATFORM, "lost")


def test_a_trainer_that_crashes_is_the_miners_fault(settings: Settings, miners_repo: Callable[[str], Path]) -> None:
    outcome = failed(work.train(settings, spec(miners_repo("import sys\nsys.exit('out of ideas')\n")), PLACE, nothing))
    assert (outcome.blame, outcome.kind) == (Blame.MINER, "crashed")
    assert "out of ideas" in outcome.reason


def test_a_strangers_tree_is_not_run_and_that_is_the_miners_fault(settings: Settings, tmp_path: Path) -> None:
    make_repo(tmp_path / "repo", {"dockerfiles/standalone-text-trainer.dockerfile": DOCKERFILE, "train.py": SAVES})
    outcome = failed(work.train(settings, spec(tmp_path / "repo"), PLACE, nothing))
    assert (outcome.blame, outcome.kind) == (Blame.MINER, "repo_rejected")
    assert "is not a bundled sample" in outcome.reason


def test_a_vetted_tree_that_is_gone_or_another_one_is_the_platforms_fault(
    settings: Settings, miners_repo: Callable[[str], Path]
) -> None:
    repo = miners_repo(SAVES)
    other, good = spec(repo, "a" * 40), spec(repo)
    outcome = failed(work.train(settings, other, PLACE, nothing))
    assert (outcome.blame, outcome.kind) == (Blame.PLATFORM, "inputs_missing")
    assert f"vetted was {'a' * 40}" in outcome.reason
    gone = good.model_copy(update={"repo": repo.with_name("gone").as_uri()})
    outcome = failed(work.train(settings, gone, PLACE, nothing))
    assert (outcome.blame, outcome.kind) == (Blame.PLATFORM, "inputs_missing")
    assert "the vetted tree is gone" in outcome.reason


def test_the_vetted_tree_is_kept_though_its_repository_goes_away(
    settings: Settings, miners_repo: Callable[[str], Path]
) -> None:
    repo = miners_repo(SAVES)
    attempt = spec(repo)
    work.repo_store(settings).fetch(attempt.repo, attempt.commit)
    repo.rename(repo.with_name("moved"))
    assert isinstance(work.train(settings, attempt, PLACE, nothing), Trained)


@pytest.mark.parametrize(
    ("error", "blame", "kind"),
    [
        (TrainingCrashed("x"), Blame.MINER, "training_crashed"),
        (CheckpointInvalid("x"), Blame.MINER, "checkpoint_invalid"),
        (ImageBuildFailed("x"), Blame.MINER, "image_build_failed"),
        (MinerFault("x"), Blame.MINER, "miner_fault"),
        (NodeLost("x"), Blame.PLATFORM, "node_lost"),
        (EngineDown("x"), Blame.PLATFORM, "engine_down"),
        (StorageUnavailable("x"), Blame.PLATFORM, "storage_unavailable"),
        (PlatformFault("x"), Blame.PLATFORM, "platform_fault"),
        (ConfigError("x"), Blame.PLATFORM, "config_error"),
        (Defect("x"), Blame.PLATFORM, "defect"),
        (KeyError("x"), Blame.PLATFORM, "defect"),
        (OSError(28, "No space left on device"), Blame.PLATFORM, "defect"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_error_becomes_a_failure_with_its_blame(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, blame: Blame, kind: str
) -> None:
    def broken(settings: Settings) -> None:
        raise error

    make_repo(tmp_path / "repo")
    monkeypatch.setattr(work, "sandbox", broken)
    outcome = failed(work.train(settings, spec(tmp_path / "repo"), PLACE, nothing))
    assert (outcome.blame, outcome.kind) == (blame, kind)
    assert outcome.reason
