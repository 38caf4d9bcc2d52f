"""The folder of one attempt on this machine's disk, and what it remembers for whoever watches the attempt next.

Guarantee: an outcome is stored whole, once, by whoever comes first; whoever comes later is told that one. Who holds the
attempt is alone with it: nobody else on this machine starts or releases it meanwhile.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, TypeVar

from tourney_ray.core.models import Failed, Trained, TrainingOutcome, TrainingSpec
from tourney_ray.core.record import Record
from tourney_ray.effects.file_lock import alone
from tourney_ray.effects.processes import ProcessMark, this_machine
from tourney_ray.errors import StorageUnavailable

Note = TypeVar("Note", bound=Record)


class Started(Record):
    """What a watcher writes down as soon as the trainer's process is there."""

    epoch: int
    leaders: tuple[tuple[int, int], ...]
    """Process id and start ticks of the leaders of its sessions."""
    machine: str
    """Where these ids mean something."""

    @property
    def here(self) -> bool:
        """Whether it was started on this machine, and this machine has not been started anew since."""
        return self.machine == this_machine()

    def marks(self) -> list[ProcessMark]:
        """The leaders as marks; none of another machine, where the ids are those of strangers."""
        return [ProcessMark(pid, ticks) for pid, ticks in self.leaders] if self.here else []


class Ended(Record):
    """How the attempt ended."""

    epoch: int
    type: Literal["trained", "failed"]
    trained: Trained | None = None
    failed: Failed | None = None

    def outcome(self) -> TrainingOutcome:
        """The outcome itself."""
        outcome = self.trained if self.type == "trained" else self.failed
        if outcome is None:
            raise StorageUnavailable(f"a stored outcome says {self.type} and nothing more")
        return outcome


class AttemptFolder:
    """Paths and memory of one attempt below the trainer's work folder."""

    def __init__(self, work: Path, spec: TrainingSpec) -> None:
        self.name = file_name(spec.attempt_id)
        self.path = work / self.name
        self.checkpoints = self.path / "checkpoints"
        self.log = self.path / "log.txt"
        self._lock = work / f".{self.name}.lock"
        self._started = self.path / "process.json"
        self._ended = self.path / "outcome.json"
        self._epoch = spec.epoch

    def held(self) -> AbstractContextManager[None]:
        """Wait until nobody else on this machine holds the attempt, then hold it; a process that dies lets go."""
        return alone(self._lock)

    def begin(self) -> None:
        """Make the folder anew, with an empty folder for checkpoints."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.checkpoints.mkdir(parents=True)

    def started(self) -> Started | None:
        """What the last watcher wrote down, of whatever epoch; None when no process was ever started."""
        return Started.model_validate_json(self._started.read_bytes()) if self._started.exists() else None

    def write_started(self, leaders: Sequence[ProcessMark]) -> None:
        """Remember the process, in one step."""
        marks = tuple((mark.pid, mark.start_ticks) for mark in leaders)
        staged = self._staged(self._started)
        started = Started(epoch=self._epoch, leaders=marks, machine=this_machine())
        staged.write_text(started.model_dump_json(), encoding="utf-8")
        staged.replace(self._started)

    def outcome(self) -> TrainingOutcome | None:
        """The stored outcome of this very epoch; None when there is none."""
        ended = self._read_ended() if self._ended.exists() else None
        return ended.outcome() if ended and ended.epoch == self._epoch else None

    def write_outcome(self, outcome: TrainingOutcome) -> TrainingOutcome:
        """Store the outcome unless there is one already; the stored one."""
        trained = outcome if isinstance(outcome, Trained) else None
        failed = outcome if isinstance(outcome, Failed) else None
        kind = "trained" if trained else "failed"
        staged = self._staged(self._ended)
        staged.write_text(Ended(epoch=self._epoch, type=kind, trained=trained, failed=failed).model_dump_json())
        try:
            os.link(staged, self._ended)
        except FileExistsError:
            return self._read_ended().outcome()
        finally:
            staged.unlink()
        return outcome

    def note(self, kind: type[Note]) -> Note | None:
        """What was noted of that kind; None when nothing was."""
        path = self._note_path(kind)
        return kind.model_validate_json(path.read_bytes()) if path.exists() else None

    def write_note(self, note: Record) -> None:
        """Keep a note, one of its kind, in one step."""
        path = self._note_path(type(note))
        staged = self._staged(path)
        staged.write_text(note.model_dump_json(), encoding="utf-8")
        staged.replace(path)

    def _note_path(self, kind: type[Record]) -> Path:
        return self.path / f"{kind.__name__.lower()}.json"

    def _read_ended(self) -> Ended:
        return Ended.model_validate_json(self._ended.read_bytes())

    def _staged(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{os.getpid()}")


def file_name(text: str) -> str:
    """`text` as the name of one file: everything but letters, digits, `_`, `.` and `-` becomes `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".") or "_"
