"""Money that arrived: the transfers to the collection address (RULES §2)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from tourney_ray.core.events import TransferCredited
from tourney_ray.core.models import Hotkey
from tourney_ray.core.record import Record
from tourney_ray.core.replay import spell
from tourney_ray.errors import ConfigError

MOST_RAO = 21_000_000 * 10**9
"""All the money that there will ever be; a transfer of more is a mistake in the feed."""


class Transfer(Record):
    """One transfer of the feed."""

    id: str
    coldkey: Hotkey
    rao: int = Field(le=MOST_RAO)


_FEED = TypeAdapter(list[Transfer])


class TransfersFile:
    """A JSON list of transfers, `{"id", "coldkey", "rao"}` each, read anew at every call; None: no transfers at all."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def transfers(self) -> list[TransferCredited]:
        """All transfers of more than 0 RAO, each id once; raises `ConfigError` for a file that cannot be read."""
        if self._path is None:
            return []
        try:
            feed = _FEED.validate_json(self._path.read_bytes())
        except OSError as error:
            raise ConfigError(f"transfers file {self._path}: {error.strerror}") from error
        except ValidationError as error:
            complaint = f"transfers file {self._path} is not a list of id, coldkey, rao: {spell(error)}"
            raise ConfigError(complaint, "correct the feed: the registration waits for it") from error
        by_id = {t.id: t for t in feed if t.rao > 0}
        return [TransferCredited(transfer_id=t.id, coldkey=t.coldkey, rao=t.rao) for t in by_id.values()]
