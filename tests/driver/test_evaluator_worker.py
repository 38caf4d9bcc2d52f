"""What a node's evaluator is given: the operator's own files where they are, else copies that no trainer ever sees."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders_training import tiny_task_data, training_spec
from tourney_ray.config import Settings
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.evaluations import NotEvaluated
from tourney_ray.core.models import Evaluated, TaskData, TaskType
from tourney_ray.driver import evaluator_worker as module, work
from tourney_ray.driver.evaluator_worker import EvaluatorWorker
from tourney_ray.driver.folders import artifact_store, carried_folder
from tourney_ray.driver.stage import placed, task_cache
from tourney_ray.effects.manifest import PREFIX
from tourney_ray.effects.provenance import Left, keep, provenance_of

SEED = bytes(32)
SECRET = b'[{"instruct": "what no trainer may see"}]'
ROWS = b"[]"
DATA = tiny_task_data(dataset_sha256=hashlib.sha256(ROWS).hexdigest())
COMMAND = Evaluate("t", "task-1", TaskType.INSTRUCT, "m00", "a", "", DATA, 1, 0)


@dataclass
class Asked:
    """An evaluator that measures nothing and remembers what it was asked."""

    data: list[TaskData] = field(default_factory=list[TaskData])

    def warm_up(self) -> None:
        """Nothing to warm."""

    def evaluate(self, _: TaskType, data: TaskData, *__: Any, rehearse: bool) -> Evaluated:
        assert not rehearse
        self.data.append(data)
        return Evaluated(value=1.0, per_row=(1.0,))


@dataclass
class Head:
    """The head, and what it was asked for."""

    settings: Settings
    asked: list[list[str]] = field(default_factory=list[list[str]])

    def files(self, paths: Sequence[str]) -> Iterator[bytes]:
        self.asked.append(list(paths))
        return work.sent_data(self.settings, paths)

    def objects(self, record: str) -> Iterator[bytes]:
        self.asked.append([record])
        return work.sent_objects(self.settings, record)


@pytest.fixture
def head(settings: Settings) -> Head:
    files = {DATA.model_path + "/config.json": b"{}", DATA.test_path: SECRET, DATA.dataset_path: ROWS}
    for name, content in files.items():
        (settings.data / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.data / name).write_bytes(content)
    return Head(settings)


@pytest.fixture
def far(settings: Settings, tmp_path: Path) -> Settings:
    """Another machine: a checkpoint is in its store, and nothing else anywhere."""
    return settings.model_copy(update={"state": tmp_path / "far"})


def at(settings: Settings, tmp_path: Path) -> Evaluate:
    """The evaluation of a checkpoint that lies in that node's store."""
    (tmp_path / "output").mkdir(exist_ok=True)
    (tmp_path / "output" / "model.safetensors").write_bytes(b"weights")
    return replace(COMMAND, checkpoint=PREFIX + artifact_store(settings).put_folder(tmp_path / "output"))


def test_where_the_operators_files_are_nothing_is_copied(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked()
    monkeypatch.setattr(module, "evaluator", lambda _, on_gpu: asked)
    EvaluatorWorker(head.settings).evaluate(at(head.settings, tmp_path), SEED, head)
    data = head.settings.data
    (given,) = asked.data
    assert (given.model_path, given.test_path) == (str(data / DATA.model_path), str(data / DATA.test_path))
    assert head.asked == []
    assert not carried_folder(head.settings).exists()


def test_elsewhere_they_are_brought_once(
    head: Head, far: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked()
    monkeypatch.setattr(module, "evaluator", lambda _, on_gpu: asked)
    worker = EvaluatorWorker(far)
    for _ in range(2):
        assert isinstance(worker.evaluate(at(far, tmp_path), SEED, head), Evaluated)
    assert head.asked == [["data/models/org--tiny", "data/tests/task-1_test.json"]]
    first, again = asked.data
    assert first == again
    assert Path(first.test_path).is_relative_to(carried_folder(far))
    assert Path(first.test_path).read_bytes() == SECRET
    assert (Path(first.model_path) / "config.json").read_bytes() == b"{}"
    assert first.dataset_path == DATA.dataset_path


def test_a_checkpoint_that_lies_elsewhere_is_brought_from_the_head_once(
    head: Head, far: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "evaluator", lambda _, on_gpu: Asked())
    command, store = at(head.settings, tmp_path), artifact_store(head.settings)
    left = Left(output=command.checkpoint.removeprefix(PREFIX))
    record = PREFIX + keep(store, provenance_of(training_spec(DATA)).model_copy(update={"left": left}))
    for _ in range(2):
        said = EvaluatorWorker(far).evaluate(replace(command, record=record), SEED, head)
        assert isinstance(said, Evaluated)
    assert head.asked.count([record]) == 1


def test_a_model_that_came_for_the_trainings_is_not_brought_again(head: Head, far: Settings) -> None:
    placed(far, [DATA.model_path, DATA.dataset_path], head.files)
    placed(far, [DATA.model_path, DATA.test_path], head.files)
    assert head.asked[1:] == [["data/tests/task-1_test.json"]]


def test_no_trainers_cache_ever_holds_what_was_brought_for_an_evaluator(head: Head, far: Settings) -> None:
    placed(far, [DATA.model_path, DATA.dataset_path], head.files)
    (_, rows) = placed(far, [DATA.model_path, DATA.test_path], head.files)
    cache = task_cache(far).place(training_spec(DATA))
    assert rows.read_bytes() == SECRET
    assert not rows.is_relative_to(cache)
    assert not rows.is_relative_to(far.state / "work")
    mounted = {path for path in cache.rglob("*") if path.is_file()}
    assert len(mounted) == 2
    assert not any(path.samefile(rows) or path.read_bytes() == SECRET for path in mounted)


def test_what_the_head_does_not_have_is_named(head: Head, far: Settings, tmp_path: Path) -> None:
    (head.settings.data / DATA.test_path).unlink()
    with contextlib.closing(EvaluatorWorker(far)) as worker:
        said = worker.evaluate(at(far, tmp_path), SEED, head)
    assert isinstance(said, NotEvaluated)
    assert not said.died
    assert "does not hold data/tests/task-1_test.json" in said.reason


def test_the_evaluator_says_why_it_could_not_tell(head: Head) -> None:
    absent = replace(COMMAND, checkpoint=f"sha256:{'a' * 64}")
    gone = replace(COMMAND, checkpoint="checkpoints/gone")
    with contextlib.closing(EvaluatorWorker(head.settings)) as worker:
        said = [worker.evaluate(command, SEED, head) for command in (gone, absent)]
    assert all(isinstance(one, NotEvaluated) and not one.died and not one.no_sandbox for one in said)
    reasons = [one.reason for one in said if isinstance(one, NotEvaluated)]
    assert "no checkpoint at 'checkpoints/gone'" in reasons[0]
    assert f"object {'a' * 64} is not in" in reasons[1]
