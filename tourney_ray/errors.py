"""Every error of the project, by who is to blame and who should read it.

`UserError` is for the person at the keyboard: one line and a hint, exit 2, no traceback. `MinerFault` is charged to the
entrant, `PlatformFault` never is, and a `Defect` halts the tournament with its journal intact.
"""

from __future__ import annotations

import re


class TourneyError(Exception):
    """Base of all errors. `message` says what happened to what; `hint` says what to do about it (may be empty)."""

    exit_code = 1
    """Of a command that ends with this error."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def kind(self) -> str:
        """The class's name as facts spell it: `node_lost` for `NodeLost`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def __reduce__(self) -> tuple[type[TourneyError], tuple[str, str]]:
        """Survive pickling, so that an error raised in a Ray worker reaches its reader whole."""
        return type(self), (self.message, self.hint)


class UserError(TourneyError):
    """Something the user asked for cannot be done as asked."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration that cannot work: unknown keys, impossible rules, files that are not there."""


class NotFound(UserError):
    """A thing that the user named does not exist."""


class NotAllowed(UserError):
    """The thing exists and is refused: a newer schema, a locked journal, an edited fact."""


class InUse(NotAllowed):
    """A journal that another process holds."""


class AuditDifference(NotAllowed):
    """A journal that was altered, or that says something else than the rules give."""

    exit_code = 1


class MinerFault(TourneyError):
    """The entrant's own doing; costs it an attempt or its place."""


class RepoRejected(MinerFault):
    """A repository that the vetting refused."""


class ImageBuildFailed(MinerFault):
    """The entrant's dockerfile did not build."""


class TrainingCrashed(MinerFault):
    """The entrant's trainer ended with an error."""


class CheckpointInvalid(MinerFault):
    """The training's output is missing, unsafe or not a model of the task."""

    exit_code = 2


class PlatformFault(TourneyError):
    """The operator's machinery failed; retried with back-off, never costs an attempt (RULES §6)."""


class NodeLost(PlatformFault):
    """A node went away, and what ran on it with it."""


class EngineDown(PlatformFault):
    """The sandbox (container engine, bubblewrap) cannot start anything."""


class StorageUnavailable(PlatformFault):
    """Staging or collecting files failed."""


class InputsMissing(PlatformFault):
    """What an attempt is made from (tree, image, model, data) is not where it should be."""


class EvaluatorCrashed(PlatformFault):
    """The evaluator died or could not be started."""


class Defect(TourneyError):
    """A contradiction inside the project itself; the tournament halts."""


class IllegalTransition(Defect):
    """A fact that cannot follow from the state it was applied to."""


class JournalConflict(Defect):
    """The journal holds more facts than this writer knew of: there is a second writer."""
