"""The two seeds of each tournament, kept from everyone until they are revealed (RULES §3)."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from tourney_ray.core.draw import SEED_BYTES, commitment
from tourney_ray.errors import StorageUnavailable
from tourney_ray.store.syncing import sync


@dataclass(frozen=True, slots=True)
class Seeds:
    """32 bytes each, in hex."""

    draw: str
    secret: str


class SeedVault:
    """A folder only its owner can read, with a file per tournament, named by the draw seed's commitment.

    With a `public_seed` the seeds follow from it and from the tournament's number: repeatable, and secret to nobody.
    """

    def __init__(self, folder: Path, public_seed: int | None = None) -> None:
        self._folder = folder
        self._public_seed = public_seed

    def create(self, number: int) -> Seeds:
        """Fresh seeds for the `number`-th tournament, on disk before they are returned; `StorageUnavailable` if not."""
        seeds = Seeds(self._new(number, "draw"), self._new(number, "secret"))
        try:
            self._write(seeds)
        except OSError as error:
            raise StorageUnavailable(f"no seeds can be kept in {self._folder}: {error}", "check the disk") from error
        return seeds

    def _write(self, seeds: Seeds) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        path = self._path(commitment(seeds.draw))
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(seeds), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(self._folder)

    def read(self, draw_commitment: str) -> Seeds:
        """The seeds of a tournament; raises `StorageUnavailable` when they are gone: no draw can be made then."""
        path = self._path(draw_commitment)
        try:
            seeds = Seeds(**json.loads(path.read_text(encoding="utf-8")))
            kept = commitment(seeds.draw)
        except (OSError, ValueError, TypeError) as error:
            raise StorageUnavailable(f"the seeds in {path} cannot be read: {error}", "restore the file") from error
        if kept != draw_commitment:
            raise StorageUnavailable(f"the seeds in {path} are another tournament's", "restore the file")
        return seeds

    def _new(self, number: int, purpose: str) -> str:
        if self._public_seed is None:
            return secrets.token_hex(SEED_BYTES)
        return hashlib.sha256(f"{self._public_seed}|{number}|{purpose}".encode()).hexdigest()

    def _path(self, draw_commitment: str) -> Path:
        return self._folder / f"{draw_commitment}.json"
