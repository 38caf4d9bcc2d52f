"""The sample miners as real git repositories, and the list of trees by which a sandbox knows them again.

Guarantee: the same package makes the same commits, whatever the user's git configuration says.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tourney_ray.core.models import TournamentType
from tourney_ray.effects.tree import REGULAR, TreeFile, tree_hash
from tourney_ray.errors import ConfigError, PlatformFault, StorageUnavailable

MINERS = Path(__file__).parent / "miners"
IMAGE_MINERS = Path(__file__).parent / "image_miners"
RECIPES = (
    "cosine-full",
    "linear-decay",
    "crash-once",
    "lora-wide",
    "no-checkpoint",
    "memoriser",
    "short-first",
    "constant-rate",
    "lora-attention",
    "large-batch",
    "averaged",
)
"""The bundled recipes, in the order in which they are handed out; the unlucky ones are among the first ten."""

BASE_CONTESTANT = "base-contestant"

IMAGE_RECIPES = ("wide-cosine", "even-keel", "by-stages", "caption-free", "one-picture")
"""The bundled recipes of image miners, likewise."""

IMAGE_BASE_CONTESTANT = "image-base-contestant"
TEXT = TournamentType.TEXT
MAX_SAMPLES = 64
"""Most sample miners: beyond the recipes come variants of them, and the sandbox must know every one by its tree."""

COMMITTED_AT = "2025-01-01T00:00:00+00:00"
"""Date of every sample commit; fixed, so that its id is."""


@dataclass(frozen=True)
class SampleRepository:
    """A git repository on this disk, at the only commit of its branch `main`."""

    name: str
    path: Path
    commit: str
    """40 hex digits."""
    tree_hash: str
    """40 hex digits."""
    description: str
    """One sentence on how it trains."""


@dataclass(frozen=True)
class _Sample:
    name: str
    description: str
    files: dict[str, bytes]

    @property
    def tree(self) -> str:
        return tree_hash({path: _as_regular(content) for path, content in self.files.items()})


def write_sample_repositories(folder: Path, count: int, kind: TournamentType = TEXT) -> list[SampleRepository]:
    """The first `count` sample miners (1 to 64) as repositories `folder/{name}`; those that are there are kept.

    Raises `ConfigError` for another count, or where a folder holds something else, and `PlatformFault` without git.
    """
    return [_write(sample, folder) for sample in _samples(count, kind)]


def write_base_contestant(folder: Path, kind: TournamentType = TEXT) -> SampleRepository:
    """The first champion's repository, `folder/{name}`: a recipe that can be beaten. Raises as above."""
    return _write(_base_contestant(kind), folder)


@functools.cache
def sample_tree_hashes() -> frozenset[str]:
    """Tree ids of the base contestants and of all 64 sample miners of both kinds; takes milliseconds."""
    samples = [one for kind in TournamentType for one in (_base_contestant(kind), *_samples(MAX_SAMPLES, kind))]
    return frozenset(sample.tree for sample in samples)


def _samples(count: int, kind: TournamentType) -> list[_Sample]:
    if not 1 <= count <= MAX_SAMPLES:
        raise ConfigError(f"{count} sample miners were asked for", f"ask for 1 to {MAX_SAMPLES}")
    return [_sample(index, kind) for index in range(count)]


def _sample(index: int, kind: TournamentType) -> _Sample:
    """The `index`-th sample: a recipe as it is, then, round by round, with another seed, rate and length."""
    recipes = RECIPES if kind is TEXT else IMAGE_RECIPES
    turn, recipe = index // len(recipes), recipes[index % len(recipes)]
    files = _recipe_files(recipe, kind)
    if turn == 0:
        return _finish(recipe, recipe, files, "")
    overlay = {"seed": index, "learning_rate_scale": round(0.8**turn, 3), "steps_scale": round(0.95**turn, 3)}
    files["variant.json"] = (json.dumps(overlay, indent=2) + "\n").encode()
    return _finish(f"{recipe}-{turn + 1}", recipe, files, f" Variant {turn + 1}: {json.dumps(overlay)}.")


def _base_contestant(kind: TournamentType) -> _Sample:
    name = BASE_CONTESTANT if kind is TEXT else IMAGE_BASE_CONTESTANT
    return _finish(name, name, _recipe_files(name, kind), "")


def _finish(name: str, recipe: str, files: dict[str, bytes], ending: str) -> _Sample:
    """The sample with its README, which says what the docstring of its `train.py` says."""
    docstring = files["train.py"].decode().split('"""')[1]
    description = " ".join(docstring.split()) + ending
    readme = f"# {name}\n\nA sample miner of tourney-ray, recipe `{recipe}`.\n\n{description}\n"
    return _Sample(name, description, {**files, "README.md": readme.encode()})


def _recipe_files(recipe: str, kind: TournamentType) -> dict[str, bytes]:
    folder = MINERS if kind is TEXT else IMAGE_MINERS
    return _files_below(folder / "shared") | _files_below(folder / recipe)


@functools.cache
def _cached_files_below(folder: Path) -> tuple[tuple[str, bytes], ...]:
    """Paths and contents below `folder`, without the bytecode that an installer may have left there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return tuple((path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths)


def _files_below(folder: Path) -> dict[str, bytes]:
    return dict(_cached_files_below(folder))


def _as_regular(content: bytes) -> TreeFile:
    return REGULAR, content


def _write(sample: _Sample, folder: Path) -> SampleRepository:
    path = folder / sample.name
    try:
        if not path.exists():
            _create(sample, path)
        commit, tree = _git(path, "rev-parse", "HEAD", "HEAD^{tree}").split()
    except OSError as problem:
        raise StorageUnavailable(
            f"the sample miner {sample.name} could not be written to {path}: {problem}"
        ) from problem
    if tree != sample.tree:
        raise ConfigError(f"{path} holds something else than the sample miner {sample.name}", "remove that folder")
    return SampleRepository(sample.name, path, commit, tree, sample.description)


def _create(sample: _Sample, path: Path) -> None:
    """Make the repository beside its place and move it there, so that a half-made one is never taken for whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".staged-", dir=path.parent) as staged:
        inner = Path(staged) / sample.name
        _write_files(sample, inner)
        _commit(inner, sample.name)
        inner.rename(path)


def _write_files(sample: _Sample, path: Path) -> None:
    for name, content in sample.files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o644)


def _commit(path: Path, name: str) -> None:
    _git(path, "init", "--quiet", "--template=", "--initial-branch=main")
    _git(path, "config", "uploadpack.allowAnySHA1InWant", "true")
    _git(path, "add", "--all", "--force")
    _git(path, "commit", "--quiet", "--message", f"The sample miner {name}")


def _git(path: Path, *arguments: str) -> str:
    """What git prints, run in `path` with nothing of the user's configuration or environment."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=path, env=_git_environment(path), capture_output=True, text=True, check=False
        )
    except FileNotFoundError as missing:
        raise PlatformFault("git is not installed", "install it, for example: apt-get install git") from missing
    if done.returncode != 0:
        raise PlatformFault(f"git {arguments[0]} failed in {path}: {done.stderr.strip()}")
    return done.stdout


def _git_environment(path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "HOME": str(path),
        "GIT_CEILING_DIRECTORIES": str(path.parent),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "sample miner",
        "GIT_AUTHOR_EMAIL": "sample@miner.invalid",
        "GIT_AUTHOR_DATE": COMMITTED_AT,
        "GIT_COMMITTER_NAME": "sample miner",
        "GIT_COMMITTER_EMAIL": "sample@miner.invalid",
        "GIT_COMMITTER_DATE": COMMITTED_AT,
    }
