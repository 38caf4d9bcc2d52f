"""The folder of a tournament that is over: its journal, its store of artifacts, its settings file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from tests.builders import miners
from tests.core.arena import Arena
from tourney_ray.core.models import Trained, TrainingSpec
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.provenance import Left, Provenance, keep, provenance_of
from tourney_ray.store.journal import Journal

SETTINGS = """\
state = "state"
artifacts = "kept"
[registry]
miners = "miners.json"
[sandbox]
kind = "process"
[cluster]
address = "127.0.0.1:1"
[retention]
caches_gib = {caches_gib}
artifacts_gib = {artifacts_gib}
"""
OLD = datetime.now(UTC) - timedelta(days=1)
KIB = 1024


@dataclass
class Kept:
    """What is there."""

    folder: Path
    checkpoints: dict[str, str] = field(default_factory=dict[str, str])
    """Digest by attempt, in order."""
    records: dict[str, Provenance] = field(default_factory=dict[str, Provenance])
    champion: str = ""
    told: Callable[[Provenance], Provenance] = lambda record: record
    """What is kept in place of a record."""

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "kept"))

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def settings(self, caches_gib: float = 1.0, artifacts_gib: float = 1.0) -> Path:
        path = self.folder / "tournament.toml"
        path.write_text(SETTINGS.format(caches_gib=caches_gib, artifacts_gib=artifacts_gib))
        return path

    def train(self, spec: TrainingSpec) -> Trained:
        """A checkpoint of 16 KiB of its own, with its record."""
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "weights").write_bytes(spec.attempt_id.encode() * (16 * KIB // len(spec.attempt_id)))
        digest = self.store.put_folder(source)
        left = Left(output=digest, output_files=1, output_bytes=(source / "weights").stat().st_size)
        record = provenance_of(spec).model_copy(update={"left": left})
        self.checkpoints[spec.attempt_id], self.records[spec.attempt_id] = digest, record
        return Trained(
            checkpoint=f"sha256:{digest}",
            seconds=1.0,
            log_tail=f"{spec.attempt_id} says goodbye\n",
            provenance=f"sha256:{keep(self.store, self.told(record))}",
        )

    def record_digest(self, attempt: str) -> str:
        """Under which the attempt's record is kept."""
        return keep(self.store, self.records[attempt])

    def grow_old(self) -> None:
        """Everything was kept a day ago."""
        for path in (self.folder / "kept" / "objects").glob("??/*"):
            os.utime(path, (OLD.timestamp(), OLD.timestamp()))

    def held(self) -> set[str]:
        """The checkpoints that are there, by attempt."""
        return {attempt for attempt, digest in self.checkpoints.items() if self.store.has(digest)}


def tournament(
    folder: Path, ends: bool = True, told: Callable[[Provenance], Provenance] = lambda record: record
) -> Kept:
    """One of eight miners, over or in its second round."""
    kept = Kept(folder, told=told)
    arena = Arena(miners(8), trains=kept.train).open()
    if ends:
        kept.champion = arena.run().completed.winner or ""  # pyright: ignore[reportOptionalMemberAccess]
    else:
        arena.until_active(2)
    journal = Journal.open(kept.state)
    for at, facts in groupby(arena.stage.facts, key=lambda pair: pair[1]):
        journal.append([fact for fact, _ in facts], at)
    journal.close()
    return kept
