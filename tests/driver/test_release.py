"""What it takes to give an attempt's GPUs away: nothing of it runs, nothing of it will, and nobody guesses."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.effects.builders_sandbox import NEVER_STARTS, SAVING, Told, World, nothing
from tourney_ray.config import Registry, Sandbox, Settings
from tourney_ray.core.models import Blame, Failed, Trained, TrainingOutcome, TrainingSpec
from tourney_ray.driver import work
from tourney_ray.effects import attempt_folder, processes, sandbox
from tourney_ray.effects.attempt_folder import AttemptFolder
from tourney_ray.effects.ports import Place
from tourney_ray.effects.process import Job
from tourney_ray.effects.processes import mark_of
from tourney_ray.effects.ran import Ran
from tourney_ray.effects.sandbox import SandboxTrainer
from tourney_ray.errors import EngineDown, PlatformFault, StorageUnavailable

ENDLESS = "import select\nselect.select([], [], [], 60)\n"
GONE = "its processes are gone"
NEVER = "it has not started, and will not"


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "data").symlink_to("store")
    return World(tmp_path)


@pytest.fixture
def settings(world: World, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a node on which the sources of the world may run."""
    monkeypatch.setattr(work, "sample_tree_hashes", lambda: frozenset(world.trees))
    registry = Registry(miners=world.folder / "miners.json")
    return Settings(state=world.folder, registry=registry, sandbox=Sandbox(kind="process"))


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, like a trainer's."""
    words = [sys.executable, "-I", "-S", "-c", ENDLESS]
    with subprocess.Popen(words, start_new_session=True) as process:
        yield process
        process.kill()


def left_behind(world: World, spec: TrainingSpec, process: subprocess.Popen[bytes]) -> AttemptFolder:
    """The folder of an attempt whose watcher is gone and whose trainer is that process."""
    folder, mark = AttemptFolder(world.work, spec), mark_of(process.pid)
    assert mark
    folder.begin()
    folder.write_started([mark])
    return folder


def released(outcome: TrainingOutcome | Ran | None) -> str:
    """The reason of an attempt that was ended by its release."""
    assert isinstance(outcome, Failed), outcome
    assert (outcome.blame, outcome.kind) == (Blame.PLATFORM, "released")
    return outcome.reason


# --- never started


def test_what_never_started_is_free_and_never_starts(settings: Settings, world: World) -> None:
    """Its watcher may still be on the way: it fetches the repository for seconds before it starts anything."""
    source = world.source(SAVING)
    spec = world.spec(source)
    assert work.release(settings, spec) == NEVER
    place = Place(driver="d", node="n", gpus=8)
    assert released(work.train(settings, spec, place, NEVER_STARTS)) == "it was released before it started"
    assert released(world.trainer().train(spec, source, NEVER_STARTS)) == "it was released before it started"
    assert AttemptFolder(world.work, spec).started() is None


def test_a_release_may_be_asked_for_twice(settings: Settings, world: World) -> None:
    spec = world.spec(world.source(SAVING))
    assert work.release(settings, spec) == work.release(settings, spec) == NEVER


def test_other_attempts_of_the_training_start_all_the_same(settings: Settings, world: World) -> None:
    source = world.source(SAVING + "(output / 'x').touch()")
    work.release(settings, world.spec(source, attempt=1, epoch=1))
    assert isinstance(world.trainer().train(world.spec(source, attempt=2, epoch=2), source, nothing), Trained)


def test_a_release_waits_for_a_start_that_is_under_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the start and the note of its process nobody could find it."""
    source = world.source(SAVING + "(output / 'x').touch()")
    remember = SandboxTrainer._remember
    refused: list[bool] = []

    def remember_alone(trainer: SandboxTrainer, spec: TrainingSpec, folder: AttemptFolder, job: Job) -> None:
        with folder._lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(True)
        remember(trainer, spec, folder, job)

    monkeypatch.setattr(SandboxTrainer, "_remember", remember_alone)
    assert isinstance(world.trainer().train(world.spec(source), source, nothing), Trained)
    assert refused == [True]


# --- running


def test_what_runs_under_a_watcher_is_ended_and_the_watcher_hears_of_it(settings: Settings, world: World) -> None:
    source = world.source(SAVING + "(output / 'x').touch()\n" + ENDLESS)
    spec = world.spec(source)
    said: list[str] = []
    outcome = world.trainer(max_seconds=20).train(spec, source, Told(lambda: said.append(work.release(settings, spec))))
    assert said == [GONE]
    assert released(outcome) == "it was released, and the training ended with it"


def test_what_runs_without_a_watcher_is_ended(
    settings: Settings, world: World, orphan: subprocess.Popen[bytes]
) -> None:
    spec = world.spec(world.source(""))
    folder = left_behind(world, spec, orphan)
    assert work.release(settings, spec) == GONE
    assert orphan.wait() == -signal.SIGKILL
    assert released(folder.outcome())
    assert work.release(settings, spec) == GONE


# --- ended


def test_what_has_ended_is_free_and_keeps_its_outcome(settings: Settings, world: World) -> None:
    source = world.source(SAVING + "(output / 'x').touch()")
    spec = world.spec(source)
    outcome = world.trainer().train(spec, source, nothing)
    assert isinstance(outcome, Trained)
    assert work.release(settings, spec) == GONE
    assert world.trainer().adopt(spec) == outcome


# --- other epochs in the same folder


def test_what_an_older_epoch_left_is_ended_and_this_one_never_starts(
    settings: Settings, world: World, orphan: subprocess.Popen[bytes]
) -> None:
    source = world.source(SAVING)
    left_behind(world, world.spec(source, epoch=1), orphan)
    assert work.release(settings, world.spec(source, epoch=2)) == NEVER
    assert orphan.wait() == -signal.SIGKILL
    assert released(world.trainer().train(world.spec(source, epoch=2), source, NEVER_STARTS))


def test_a_late_release_leaves_a_later_epoch_alone(
    settings: Settings, world: World, orphan: subprocess.Popen[bytes]
) -> None:
    source = world.source("")
    folder = left_behind(world, world.spec(source, epoch=2), orphan)
    assert work.release(settings, world.spec(source, epoch=1)) == "a later epoch ended it when it started"
    assert orphan.poll() is None
    assert folder.outcome() is None


# --- what cannot be known


def test_the_folder_of_another_machine_proves_nothing_and_its_ids_are_strangers(
    settings: Settings, world: World, orphan: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = world.spec(world.source(""))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(attempt_folder, "this_machine", lambda: "another")
        left_behind(world, spec, orphan)
    with pytest.raises(EngineDown, match="was started on another machine, or before a restart") as caught:
        work.release(settings, spec)
    assert "tourney fence" in caught.value.hint
    assert orphan.poll() is None


def test_what_cannot_be_ended_is_not_released(
    settings: Settings, world: World, orphan: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = world.spec(world.source(""))
    left_behind(world, spec, orphan)
    with monkeypatch.context() as deaf:
        deaf.setattr(processes, "_signal", lambda *_: None)
        deaf.setattr(sandbox, "end", partial(processes.end, patience_s=0.01))
        with pytest.raises(PlatformFault, match=f"process {orphan.pid} of a training cannot be ended"):
            work.release(settings, spec)
    assert work.release(settings, spec) == GONE


def test_a_disk_that_cannot_tell_is_the_platforms_fault(settings: Settings, world: World) -> None:
    world.work.write_text("no folder")
    with pytest.raises(StorageUnavailable, match="could not be kept on disk"):
        work.release(settings, world.spec(world.source("")))
