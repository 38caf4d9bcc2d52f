"""Where a node keeps what a tournament makes, by its settings."""

from __future__ import annotations

from pathlib import Path

from tourney_ray.config import Settings
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.repos import RepoStore
from tourney_ray.effects.retention_caches import Caches


def artifact_store(settings: Settings) -> ArtifactStore:
    """The store of outputs, logs and records; raises `ConfigError` for a URI that nobody knows."""
    return ArtifactStore(settings.artifacts_at)


def checkouts_folder(settings: Settings) -> Path:
    """Checkpoints of the store as folders, for those who read them here."""
    return settings.data / "checkouts"


def repo_store(settings: Settings) -> RepoStore:
    """The fetched trees of this node."""
    choice = settings.repositories
    return RepoStore(settings.state / "repos", choice.allowed_hosts, choice.allow_file, choice.deadline_s)


def builds_folder(settings: Settings) -> Path:
    """Logs and locks of this node's builds of images."""
    return settings.state / "builds"


def carried_folder(settings: Settings) -> Path:
    """Models, data sets and, for its evaluator alone, test sets that this node got from the head."""
    return settings.state / "carried"


def caches(settings: Settings) -> Caches:
    """What lies on this node to be had again."""
    return Caches(
        settings.state / "cache",
        checkouts_folder(settings),
        repo_store(settings),
        builds_folder(settings),
        carried_folder(settings),
    )
