"""The sample miners as git repositories: real, reproducible, and recognised by their trees."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tourney_ray.core.models import TournamentType
from tourney_ray.effects.contract import parse_entrypoint
from tourney_ray.effects.tree import folder_tree_hash
from tourney_ray.effects.vetting import vet
from tourney_ray.errors import ConfigError
from tourney_ray.samples.repositories import (
    RECIPES,
    SampleRepository,
    sample_tree_hashes,
    write_base_contestant,
    write_sample_repositories,
)

COMMON = {
    "LICENSE",
    "README.md",
    "dockerfiles/standalone-image-trainer.dockerfile",
    "dockerfiles/standalone-text-trainer.dockerfile",
    "train.py",
    "training.py",
}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> list[SampleRepository]:
    """All recipes, two variants and the base contestant."""
    need("git")
    folder = tmp_path_factory.mktemp("repositories")
    return [write_base_contestant(folder), *write_sample_repositories(folder, len(RECIPES) + 2)]


def git(path: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", path, *words], check=True, capture_output=True, text=True).stdout.strip()


def test_each_is_a_clean_repository_at_the_commit_it_claims(repositories: list[SampleRepository]) -> None:
    for sample in repositories:
        assert git(sample.path, "rev-parse", "main") == sample.commit
        assert git(sample.path, "rev-parse", "main^{tree}") == sample.tree_hash
        assert git(sample.path, "status", "--porcelain") == ""
        assert set(git(sample.path, "ls-files").splitlines()) >= COMMON


def test_the_tree_without_git_is_the_tree_of_git(repositories: list[SampleRepository]) -> None:
    for sample in repositories:
        assert folder_tree_hash(sample.path) == sample.tree_hash


def test_tree_hash_knows_executables_links_and_gits_order(tmp_path: Path, need: Callable[[str], str]) -> None:
    need("git")
    for name in ("a.b", "a/c", "a0", "run.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("a")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    assert folder_tree_hash(tmp_path) == git(tmp_path, "write-tree")


def test_every_one_is_recognised_and_no_two_are_the_same(repositories: list[SampleRepository]) -> None:
    trees = [sample.tree_hash for sample in repositories]
    assert set(trees) <= sample_tree_hashes()
    assert len(set(trees)) == len(trees) == len({sample.name for sample in repositories})
    assert len(sample_tree_hashes()) == 2 * 65


def test_the_trainers_really_differ(repositories: list[SampleRepository]) -> None:
    scripts = {(sample.path / "train.py").read_text() for sample in repositories}
    assert len(scripts) == len(RECIPES) + 1
    assert all(sample.description for sample in repositories)


def test_every_one_passes_the_vetting_and_can_be_started(repositories: list[SampleRepository]) -> None:
    for sample in repositories:
        for kind in TournamentType:
            assert vet(sample.path, kind) == []
            dockerfile = sample.path / f"dockerfiles/standalone-{kind.value}-trainer.dockerfile"
            assert parse_entrypoint(dockerfile.read_text()) == ["python3", "/workspace/train.py"]


def test_the_users_git_configuration_changes_nothing(
    tmp_path: Path, repositories: list[SampleRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[core]\n autocrlf = true\n[commit]\n gpgsign = true\n[user]\n name = Somebody\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    mask = os.umask(0o077)
    try:
        sample = write_sample_repositories(tmp_path / "repositories", 1)[0]
    finally:
        os.umask(mask)
    assert sample.commit == repositories[1].commit


def test_any_commit_can_be_asked_for(tmp_path: Path, repositories: list[SampleRepository]) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "fetch", "--quiet", f"file://{repositories[1].path}", repositories[1].commit)
    assert git(tmp_path, "rev-parse", "FETCH_HEAD") == repositories[1].commit


def test_what_is_there_is_kept_and_something_else_is_refused(tmp_path: Path, need: Callable[[str], str]) -> None:
    need("git")
    first = write_base_contestant(tmp_path)
    assert write_base_contestant(tmp_path) == first
    (first.path / "train.py").write_text("print()")
    git(first.path, "-c", "user.name=x", "-c", "user.email=x@x.invalid", "commit", "--quiet", "-a", "-m", "changed")
    with pytest.raises(ConfigError, match="something else"):
        write_base_contestant(tmp_path)


@pytest.mark.parametrize("count", [0, 65])
def test_only_so_many(tmp_path: Path, count: int) -> None:
    with pytest.raises(ConfigError, match=str(count)):
        write_sample_repositories(tmp_path, count)
