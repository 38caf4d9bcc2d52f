"""Where an output comes from: one record per attempt, kept in the store and named by its digest in the outcome.

Guarantee: the same record has the same digest, and a record that is read back is the one that was kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from tourney_ray import __version__
from tourney_ray.core.models import Blame, TrainingSpec
from tourney_ray.core.record import Record
from tourney_ray.core.resources import memory_bytes
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.manifest import ManifestFile, manifest_of, sha256_of
from tourney_ray.errors import StorageUnavailable


class Source(Record):
    """The code that ran."""

    repo: str
    commit: str
    tree_hash: str
    dockerfile_sha256: str = ""
    image_id: str = ""
    """Empty without containers, as are the base images."""
    base_image_ids: tuple[str, ...] = ()


class Inputs(Record):
    """What it was given to train on."""

    model_id: str
    model_sha256: str = ""
    """Of the manifest of the model's files."""
    dataset_sha256: str


class Bounds(Record):
    """What it was held to; None: not held to any, as without containers."""

    hours: float
    mem_bytes: int | None = None
    nano_cpus: int | None = None
    pids: int | None = None
    shm_bytes: int | None = None
    profile: str = ""


class Machine(Record):
    """What it ran on."""

    node: str = ""
    kernel: str = Field(default_factory=lambda: os.uname().release)
    gpu_type: str = ""
    gpu_indices: tuple[int, ...] = ()
    engine: str = ""
    """`docker`, `bubblewrap`, or `none` for a plain process."""
    engine_version: str = ""
    api_version: str = ""
    storage_driver: str = ""


class Course(Record):
    """How it went."""

    started_at: datetime | None = None
    """UTC, by the node's own clock."""
    finished_at: datetime | None = None
    seconds: float = Field(default=0.0, ge=0)
    """From start to end by a clock that nobody sets."""
    exit_code: int | None = None
    oom_killed: bool = False
    stopped_at_deadline: bool = False


class Left(Record):
    """What it left: digests in the same store."""

    output: str = ""
    output_files: int = 0
    output_bytes: int = 0
    logs: str = ""
    logs_left_out: str = ""
    """Why its logs are not kept; empty when they are, or there are none."""


class Fault(Record):
    """Why it failed."""

    blame: Blame
    kind: str
    reason: str


class Provenance(Record):
    """The record of one attempt."""

    schema_version: Literal[1] = 1
    tourney_ray: str = __version__
    tournament_id: str
    task_id: str
    hotkey: str
    attempt_id: str
    epoch: int
    source: Source
    inputs: Inputs
    wanted: Bounds
    """As the task says."""
    held_to: Bounds | None = None
    """As the node could; None where nothing held it."""
    machine: Machine = Machine()
    course: Course = Course()
    left: Left = Left()
    fault: Fault | None = None


def provenance_of(spec: TrainingSpec) -> Provenance:
    """What is known before anything runs; the rest is added with `model_copy`."""
    return Provenance(
        tournament_id=spec.tournament_id,
        task_id=spec.task_id,
        hotkey=spec.hotkey,
        attempt_id=spec.attempt_id,
        epoch=spec.epoch,
        source=Source(repo=spec.repo, commit=spec.commit, tree_hash=spec.tree_hash, image_id=spec.image_id),
        inputs=Inputs(model_id=spec.data.model_id, dataset_sha256=spec.data.dataset_sha256),
        wanted=Bounds(hours=spec.hours_to_complete, mem_bytes=memory_bytes(spec.mem_limit), nano_cpus=spec.nano_cpus),
        machine=Machine(gpu_type=spec.gpu_requirement.gpu_type),
    )


def keep(store: ArtifactStore, record: Provenance) -> str:
    """Keep the record as JSON with sorted keys, in ASCII; its digest. Raises `StorageUnavailable`."""
    document = record.model_dump(mode="json")
    return store.put_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii"))


def load(store: ArtifactStore, digest: str) -> Provenance:
    """The record of that digest; raises `StorageUnavailable` where it is absent, spoilt or no record."""
    try:
        return Provenance.model_validate_json(store.get_bytes(digest))
    except ValidationError as error:
        raise StorageUnavailable(
            f"object {digest} in {store.uri} is no record of an attempt: {error.errors()[0]['msg']}"
        ) from error


def model_digest(folder: Path) -> str:
    """The digest of a model's folder, as `put_folder` would give it; read once as long as no file changes.

    Raises `OSError`.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    return _model_digest(folder, tuple((name, f.st_size, f.st_mtime_ns, f.st_ino) for name, f in facts))


@lru_cache(maxsize=64)
def _model_digest(folder: Path, facts: tuple[tuple[str, int, int, int], ...]) -> str:
    listed = [ManifestFile(path=name, sha256=_sha256(folder / name), bytes=size) for name, size, *_ in facts]
    return sha256_of(manifest_of(listed).content())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
