"""Images before GPUs: what may be said of them, what a build that fails costs, and which image an attempt runs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from pydantic import ValidationError

from tests.builders import CHAMPION, CLUSTER, miners
from tests.core.arena import CRASH, NODE_LOST, Arena, image_built, image_of, staging_failed
from tourney_ray.core import events as e
from tourney_ray.core.commands import Stage, Train
from tourney_ray.core.evolve import evolve, is_known
from tourney_ray.core.invariants.waits import unexplained
from tourney_ray.core.models import AttemptStatus, Blame, Failed, TrainingSpec, TrainingStatus
from tourney_ray.core.state import Training
from tourney_ray.core.trainings import spec_of
from tourney_ray.errors import IllegalTransition

STAGED = replace(CLUSTER, staged={})
UNBUILT = Failed(blame=Blame.MINER, kind="image_build_failed", reason="image build failed at step 4/9")


def arena(**changed: object) -> Arena:
    """A tournament whose first round has everything to stage."""
    return Arena(miners(9), **{"cluster": STAGED, **changed}).open().until_active()  # type: ignore[arg-type]


def first(a: Arena) -> Stage:
    """What is staged first."""
    return next(c for c in a.plan().commands if isinstance(c, Stage))


def training_of(a: Arena, spec: TrainingSpec) -> Training:
    """The training of that spec."""
    return a.tournament.tasks[spec.task_id].trainings[spec.hotkey]


def refused(a: Arena, fact: e.Fact, why: str) -> None:
    with pytest.raises(IllegalTransition, match=why):
        evolve(a.stage.state, fact, a.stage.at)


def test_a_tournament_with_staging_is_played_to_its_end_and_each_wait_has_a_reason() -> None:
    a = Arena(miners(9), cluster=STAGED).open()
    while a.step():
        assert unexplained(a.stage.state, a.plan()) == []
    assert a.tournament.completed
    images = [fact for fact, _ in a.stage.facts if isinstance(fact, e.ImageBuilt)]
    assert len(images) == len({image.hotkey for image in images}) == len(a.tournament.images)
    attempts = [t.attempt for task in a.tournament.tasks.values() for t in task.trainings.values()]
    assert all(x and x.spec.image_id == a.tournament.images[x.spec.hotkey].image_id for x in attempts)


# --- images


def test_the_image_of_an_entrant_is_that_of_all_its_trainings() -> None:
    a = arena()
    stage = first(a)
    assert (stage.image, stage.spec.image_id) == (None, "")
    assert stage.command_id == f"stage/{stage.spec.attempt_id}/{stage.node}"
    a.do(stage)
    assert a.tournament.images[stage.spec.hotkey].image_id == image_of(stage.spec)
    for task in a.tournament.tasks.values():
        for training in task.trainings.values():
            due = image_of(stage.spec) if training.hotkey == stage.spec.hotkey else ""
            assert spec_of(a.tournament, task, training, 1).image_id == due


def test_an_image_that_was_lost_is_replaced_and_the_same_one_is_no_news() -> None:
    a = arena()
    stage = first(a)
    assert not is_known(a.stage.state, image_built(stage))
    a.do(stage)
    assert is_known(a.stage.state, image_built(stage))
    again = image_built(stage, 2)
    assert not is_known(a.stage.state, again)
    a.stage.record(again)
    assert a.tournament.images[stage.spec.hotkey] == again


def test_the_champion_has_its_image_a_stranger_none_and_nobody_one_of_another_tree() -> None:
    a = arena()
    built = image_built(first(a))
    tree = a.tournament.contestant(CHAMPION).tree_hash
    a.stage.record(built.model_copy(update={"hotkey": CHAMPION, "tree_hash": tree}))
    assert CHAMPION in a.tournament.images
    refused(a, built.model_copy(update={"hotkey": "stranger"}), "stranger has not entered")
    refused(a, built.model_copy(update={"tree_hash": "ab" * 20}), "entered with tree")


def test_without_a_champion_there_is_no_champions_image() -> None:
    a = arena(champion=None)
    a.do(first(a))
    refused(a, image_built(first(a)).model_copy(update={"hotkey": CHAMPION}), "champ has not entered")


@pytest.mark.parametrize("image_id", ["", "sha256:", "latest", f"sha256:{'A' * 64}", f"sha256:{'a' * 65}", "a" * 64])
def test_an_image_is_named_by_its_digest(image_id: str) -> None:
    fields = image_built(first(arena())).model_dump()
    with pytest.raises(ValidationError, match="image_id"):
        e.ImageBuilt.model_validate({**fields, "image_id": image_id})


# --- which image runs


def started(a: Arena) -> TrainingSpec:
    """The first training, staged and started."""
    stage = first(a)
    a.do(stage)
    train = next(c for c in a.plan().commands if isinstance(c, Train))
    assert train.spec.hotkey == stage.spec.hotkey
    a.do(train)
    return train.spec


def runs(spec: TrainingSpec, image_id: str) -> e.AttemptRunning:
    where = spec.model_dump(include={"tournament_id", "task_id", "hotkey", "attempt_id"})
    return e.AttemptRunning(**where, image_id=image_id)


def test_an_attempt_runs_the_image_that_it_was_started_with() -> None:
    a = arena()
    spec = started(a)
    assert spec.image_id == image_of(spec)
    refused(a, runs(spec, image_of(spec, 2)), "its image is sha256:")
    a.stage.record(runs(spec, image_of(spec)))
    attempt = training_of(a, spec).attempt
    assert attempt
    assert attempt.running_at == a.stage.at


def test_also_when_its_entrant_gets_another_one_meanwhile() -> None:
    a = arena()
    stage = first(a)
    spec = started(a)
    a.stage.record(image_built(stage, 2))
    refused(a, runs(spec, image_of(spec, 2)), "its image is sha256:")
    a.stage.record(runs(spec, image_of(spec)))


def test_a_trainer_without_containers_names_no_image() -> None:
    a = arena()
    a.stage.record(runs(started(a), ""))


# --- builds that fail


def test_a_failed_build_is_an_attempt_without_a_lease() -> None:
    a = arena(builds=lambda spec: UNBUILT if spec.epoch == 1 and spec.hotkey == "m00" else None)
    stage = next(c for c in iter(lambda: first(a), None) if c.spec.hotkey == "m00" or a.do(c))
    a.do(stage)
    training = training_of(a, stage.spec)
    (attempt,) = training.attempts
    assert (attempt.status, attempt.node, attempt.outcome) == (AttemptStatus.FAILURE, stage.node, UNBUILT)
    assert attempt.started_at == attempt.ended_at == a.stage.at
    assert (training.status, training.miner_failures) == (TrainingStatus.PENDING, 1)
    assert training.trouble == "1 of 2 attempts failed: image build failed at step 4/9" or training.trouble
    assert stage.spec.attempt_id not in a.stage.state.leases
    again = next(c for c in a.plan().commands if isinstance(c, Stage) and c.spec.task_id == stage.spec.task_id)
    assert (again.spec.epoch, again.spec.hotkey) == (2, "m00")


@cache
def hopeless() -> Arena:
    """A tournament in which the image of one entrant can never be built."""
    a = Arena(miners(9), cluster=STAGED, builds=lambda spec: UNBUILT if spec.hotkey == "m08" else None).open()
    a.run()
    return a


def test_two_failed_builds_end_a_training_and_the_tournament_goes_on_without_it() -> None:
    a = hopeless()
    (task, *_) = a.tasks(1)
    training = task.trainings["m08"]
    assert (training.status, training.failed_by, len(training.attempts)) == (TrainingStatus.FAILURE, Blame.MINER, 2)
    assert training.trouble == "2 of 2 attempts failed, the last one: image build failed at step 4/9"
    assert a.tournament.completed
    assert a.tournament.completed.winner == "m07"
    assert a.stage.state.leases == {}


def test_only_the_miners_fault_and_only_of_the_attempt_that_is_due_is_told() -> None:
    a = arena()
    stage = first(a)
    fact = staging_failed(stage, UNBUILT)
    other_terms = fact.terms.model_copy(update={"hours": 9.0})
    other = {"epoch": 2, "attempt_id": f"{fact.attempt_id}x", "tree_hash": "ab" * 20, "terms": other_terms}
    whys = ["epoch 1 is due", "its id is", "entered with tree", "the terms are not the task's"]
    for (name, value), why in zip(other.items(), whys, strict=True):
        refused(a, fact.model_copy(update={name: value}), why)
    for failed in (NODE_LOST, CRASH.model_copy(update={"blame": Blame.EVALUATOR})):
        refused(a, staging_failed(stage, failed), "only a miner's fault costs an attempt")
    refused(a, fact.model_copy(update={"hotkey": "stranger"}), "does not train")


def test_no_build_fails_of_what_trains() -> None:
    a = arena()
    stage = first(a)
    started(a)
    refused(a, staging_failed(stage, UNBUILT), "the training is training")
