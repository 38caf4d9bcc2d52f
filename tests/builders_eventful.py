"""A journal in which every kind of fact occurs: whoever reads, writes or checks facts is tried on it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.builders import CLUSTER, Game, Played, Script, Stage, miners, play
from tourney_ray.core import events as e
from tourney_ray.core.commands import Stage as Command
from tourney_ray.core.models import Blame, Failed, RoundStatus, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import Task, Tournament
from tourney_ray.core.trainings import spec_of
from tourney_ray.driver.outcomes import staging_failed

MINE = Failed(blame=Blame.MINER, kind="exit", reason="exit status 1", seconds=0.5, log_tail="boom")
OURS = Failed(blame=Blame.PLATFORM, kind="node_lost", reason="the node is gone")
BY_HAND: dict[str, Any] = {"by": "ada", "because": "seen on the dashboard"}


def eventful() -> Played:
    """Three tournaments: one with mishaps, one without a valid metric, one that a person cancels after much trouble."""
    stage = Stage()
    _with_mishaps(stage)
    worthless = {(1, hotkey): float("nan") for hotkey in miners(8)}
    play(8, script=Script(values=worthless), tournament_type=TournamentType.IMAGE, stage=stage)
    return _cancelled(stage)


def _with_mishaps(stage: Stage) -> None:
    script = Script(
        values={(1, "m10"): float("nan")},
        failures={(1, "m03"): [MINE, MINE], (1, "m04"): [OURS, MINE, OURS]},
        evaluation_failures={(1, "m05"): 2},
        preparation_failures={1: 1},
        refusals={"m02": "no dockerfile"},
        unpaid=frozenset({"m01"}),
    )
    play(12, script=script, stage=stage)


def _cancelled(stage: Stage) -> Played:
    """A text tournament whose only task begins anew, because the platform ended five of nine trainings, in vain."""
    stage.at += timedelta(hours=72)
    failing = {(1, hotkey): [OURS, OURS] for hotkey in ("m00", "m01", "m02", "m03", "m04")}
    script = Script(failures=failing, historical={1: "task-of-last-year"})
    game = Game(stage, miners(9), script, Rules(max_platform_failures=1), TournamentType.TEXT)
    reign = stage.state.reigns[TournamentType.TEXT]
    game.open(reign.champion, reign.wins)
    game.run(until=_is_active)
    _image_built(stage, game.tournament, "m05")
    _not_built(stage, game.tournament, "m06")
    game.start()
    _node_lost(stage, only_task(game.tournament))
    _begun_anew(stage, only_task(game.tournament), "m00")
    game.run(until=lambda t: only_task(t).run == 2)
    game.start()
    stage.record(e.TournamentCancelled(tournament_id=game.tournament_id, **BY_HAND))
    return game.run()


def only_task(t: Tournament) -> Task:
    """The task of the only match of the only round."""
    (task,) = t.tasks.values()
    return task


def _is_active(t: Tournament) -> bool:
    return t.round is not None and t.round.status is RoundStatus.ACTIVE


def _image_built(stage: Stage, t: Tournament, hotkey: str) -> None:
    built = image(t, hotkey)
    stage.record(built)
    stage.record(built.model_copy(update={"image_id": f"sha256:{'c' * 64}", "because": "the image of before was lost"}))


def image(t: Tournament, hotkey: str) -> e.ImageBuilt:
    """What was built of the tree of that entrant."""
    return e.ImageBuilt(
        tournament_id=t.tournament_id,
        hotkey=hotkey,
        tree_hash=t.contestant(hotkey).tree_hash,
        image_id=f"sha256:{'b' * 64}",
        node="n1",
        dockerfile_sha256="d" * 64,
        base_images=(f"sha256:{'a' * 64}",),
        seconds=61.5,
        because="built from the tree",
    )


def _not_built(stage: Stage, t: Tournament, hotkey: str) -> None:
    task = only_task(t)
    spec = spec_of(t, task, task.trainings[hotkey], 1)
    broken = Failed(
        blame=Blame.MINER, kind="image_build_failed", reason="image build failed at step 4/9", log_tail="no"
    )
    stage.record(staging_failed(Command(t.tournament_id, spec, "n1", None), broken))


def _node_lost(stage: Stage, task: Task) -> None:
    """A node is gone with a training on it, a person says so and gives the entrant another chance; it comes back."""
    (lease,) = [lease for lease in stage.state.leases.values() if lease.node == "n3"]
    where: dict[str, Any] = {"tournament_id": lease.tournament_id, "task_id": task.task_id, "hotkey": lease.hotkey}
    stage.record(e.NodeLost(node="n3"))
    stage.record(e.AttemptEnded(**where, attempt_id=lease.attempt_id, outcome=OURS))
    stage.record(e.NodeFenced(node="n3", **BY_HAND))
    stage.record(e.TrainingReopened(**where, **BY_HAND))
    stage.see(CLUSTER)


def _begun_anew(stage: Stage, task: Task, hotkey: str) -> None:
    tournament_id = next(lease.tournament_id for lease in stage.state.leases.values())
    stage.record(e.TrainingRetried(tournament_id=tournament_id, task_id=task.task_id, hotkey=hotkey, **BY_HAND))
