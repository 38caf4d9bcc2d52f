"""How the end of a command is told, and that an attempt runs: as facts."""

from __future__ import annotations

from collections.abc import Sequence

from tourney_ray.core import events as e
from tourney_ray.core.commands import Evaluate, PrepareTask, Release, Stage, Train
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.models import AttemptStatus, Blame, Evaluated, Failed, TrainingOutcome
from tourney_ray.core.state import State
from tourney_ray.core.trainings import terms_in
from tourney_ray.errors import EngineDown


def image_built(
    command: Stage, image_id: str, dockerfile_sha256: str, base_images: Sequence[str], seconds: float, because: str
) -> e.ImageBuilt:
    """The fact that an entrant has its image, on the command's node."""
    return e.ImageBuilt(
        tournament_id=command.tournament_id,
        hotkey=command.spec.hotkey,
        tree_hash=command.spec.tree_hash,
        image_id=image_id,
        node=command.node,
        dockerfile_sha256=dockerfile_sha256,
        base_images=tuple(base_images),
        seconds=seconds,
        because=because,
    )


def staging_failed(command: Stage, failed: Failed) -> e.StagingFailed:
    """The fact that the entrant's image cannot be built, which is its miner's fault."""
    spec = command.spec
    return e.StagingFailed(
        tournament_id=command.tournament_id,
        task_id=spec.task_id,
        hotkey=spec.hotkey,
        attempt_id=spec.attempt_id,
        epoch=spec.epoch,
        node=command.node,
        tree_hash=spec.tree_hash,
        terms=terms_in(spec),
        failed=failed,
    )


def train_ended(command: Train, outcome: TrainingOutcome) -> tuple[e.Fact, ...]:
    """What a watcher's answer tells: how the attempt ended, and whether its GPUs are free.

    After a failure of the platform the watcher does not vouch for that (it may be this that it could not do): the lease
    stays until somebody has made sure.
    """
    ended = attempt_ended(command, outcome)
    if isinstance(outcome, Failed) and outcome.blame is Blame.PLATFORM:
        return (ended,)
    return lease_ended(command, "its processes are gone"), ended


def attempt_ended(command: Train, outcome: TrainingOutcome) -> e.AttemptEnded:
    """The fact that an attempt is over."""
    return e.AttemptEnded(
        tournament_id=command.tournament_id,
        task_id=command.spec.task_id,
        hotkey=command.spec.hotkey,
        attempt_id=command.spec.attempt_id,
        outcome=outcome,
    )


def lease_ended(command: Train | Release, because: str) -> e.LeaseEnded:
    """The fact that nothing runs of an attempt any more."""
    return e.LeaseEnded(
        tournament_id=command.tournament_id,
        task_id=command.spec.task_id,
        hotkey=command.spec.hotkey,
        attempt_id=command.spec.attempt_id,
        because=because,
    )


def preparation_failed(command: PrepareTask, reason: str, model_params: int | None = None) -> e.TaskPreparationFailed:
    """The fact that a task could not be made, with the size of the model where one was chosen."""
    return e.TaskPreparationFailed(
        tournament_id=command.tournament_id,
        task_id=command.task_id,
        match_id=command.match_id,
        slot=command.slot,
        reason=reason,
        model_params=model_params,
    )


def evaluation_told(command: Evaluate, said: Evaluated | NotEvaluated) -> e.CheckpointEvaluated | e.EvaluationFailed:
    """What an evaluator's answer tells; raises `EngineDown` where nothing can be evaluated for want of a sandbox."""
    if isinstance(said, NotEvaluated):
        if said.no_sandbox:
            raise EngineDown(said.reason)
        return evaluation_failed(command, said.reason, said.died)
    return e.CheckpointEvaluated(
        tournament_id=command.tournament_id,
        task_id=command.task_id,
        hotkey=command.hotkey,
        number=command.number,
        result=said,
    )


def evaluation_failed(command: Evaluate, reason: str, died: bool = False) -> e.EvaluationFailed:
    """The fact that the evaluator could not tell; `died` at the checkpoint."""
    return e.EvaluationFailed(
        tournament_id=command.tournament_id,
        task_id=command.task_id,
        hotkey=command.hotkey,
        number=command.number,
        reason=reason,
        died=died,
    )


def attempt_running(state: State, attempt_id: str) -> e.AttemptRunning | None:
    """The fact that an attempt runs; None when it is over, or known to run already."""
    task_id, _, rest = attempt_id.partition(".")
    hotkey, _, _ = rest.rpartition(".")
    for t in state.live():
        training = t.tasks[task_id].trainings.get(hotkey) if task_id in t.tasks else None
        attempt = training.attempt if training else None
        if attempt and attempt.attempt_id == attempt_id and attempt.status is AttemptStatus.TRAINING:
            running = e.AttemptRunning(
                tournament_id=t.tournament_id, task_id=task_id, hotkey=hotkey, attempt_id=attempt_id
            )
            return running if attempt.running_at is None else None
    return None
