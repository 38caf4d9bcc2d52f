"""The evaluator's process as the driver uses it: honest, dying, and taken over by what it read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builders_training import tiny_task_data
from tourney_ray.config import Evaluation, Sandbox, Settings
from tourney_ray.core.dataset_types import GrpoDatasetType, InstructDatasetType, RewardFunction
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.driver import evaluator as module
from tourney_ray.driver.evaluator import SandboxedEvaluator, check_evaluator, evaluator, is_isolated
from tourney_ray.effects import bubblewrap
from tourney_ray.effects.evaluator_sandbox import Reading
from tourney_ray.errors import ConfigError, EvaluatorCrashed, EvaluatorDied

FILES = Path(__file__).parents[1] / "fixtures" / "evaluation"
GIB = 2**30
SEED = bytes(32)
TINY = tiny_task_data()


@pytest.fixture
def liar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxedEvaluator]:
    monkeypatch.setattr(module, "CHILD", "tests.driver.lying_child")
    reading = Reading((tmp_path,), (), GIB)
    with SandboxedEvaluator(tmp_path, reading, 20.0, isolated=False) as opened:
        yield opened


def asked(of: SandboxedEvaluator, name: str, *, rehearse: bool = False, model: str = "models/base") -> float:
    data = TINY.model_copy(update={"model_path": model})
    return of.evaluate(TaskType.INSTRUCT, data, Path("/checkpoints") / name, SEED, rehearse=rehearse).value


def test_what_it_says_is_taken_when_it_can_be(liar: SandboxedEvaluator) -> None:
    assert [asked(liar, "good") for _ in range(3)] == [2.0] * 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dies", "its process exited with 7; its last words: reading dies"),
        ("babbles", "it answered with what is no answer"),
        ("pickles", "it answered with what is no answer"),
        ("another", "it answered question 2 instead of 1"),
        ("better", "it answered with what cannot be: its value 0.5 is not 2.0"),
        ("more", "it answered with what is no answer"),
        ("breaks", "out of memory"),
    ],
)
def test_whatever_else_it_does_is_its_death_and_another_one_takes_its_place(
    liar: SandboxedEvaluator, name: str, words: str
) -> None:
    with pytest.raises(EvaluatorDied, match=words):
        asked(liar, name)
    assert asked(liar, "good") == 2.0


def test_its_clock_is_its_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHILD", "tests.driver.lying_child")
    with SandboxedEvaluator(tmp_path, Reading((), (), GIB), 0.3, isolated=False) as opened:
        with pytest.raises(EvaluatorDied, match=r"did not answer within 0\.3 s"):
            asked(opened, "hangs")
        opened._within_s = 20.0
        assert asked(opened, "good") == 2.0


def test_a_fault_that_it_tells_of_is_no_death(liar: SandboxedEvaluator) -> None:
    with pytest.raises(EvaluatorCrashed, match="no rows") as caught:
        asked(liar, "fails")
    assert not isinstance(caught.value, EvaluatorDied)


def test_a_checkpoint_dies_a_second_time_only_where_the_base_model_does_not(liar: SandboxedEvaluator) -> None:
    with pytest.raises(EvaluatorDied):
        asked(liar, "dies", rehearse=True)
    with pytest.raises(EvaluatorCrashed, match="the base model itself cannot be evaluated: its process") as caught:
        asked(liar, "dies", rehearse=True, model="models/dies")
    assert not isinstance(caught.value, EvaluatorDied)


def test_a_process_that_does_not_start_is_no_death_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHILD", "tests.driver.no_such_child")
    with SandboxedEvaluator(tmp_path, Reading((), (), GIB), 20.0, isolated=False) as opened:
        with pytest.raises(EvaluatorCrashed, match=r"the evaluator did not start: .*No module named") as caught:
            asked(opened, "good")
        assert not isinstance(caught.value, EvaluatorDied)


# --- the real one


@pytest.fixture
def sandboxed(settings: Settings, need: Callable[[str], str]) -> Settings:
    """Settings of a node that has the fixtures' base model and test rows, and must isolate."""
    need("bwrap")
    shutil.copytree(FILES / "base", settings.data / "models" / "base")
    (settings.data / "tests").mkdir()
    shutil.copy(FILES / "data" / "instruct_test.json", settings.data / "tests" / "rows.json")
    return settings.model_copy(
        update={"sandbox": Sandbox(kind="bubblewrap"), "evaluation": Evaluation(mem_gib=2.0, deadline_hours=0.1)}
    )


@pytest.fixture
def task(sandboxed: Settings) -> TaskData:
    rows = (sandboxed.data / "tests" / "rows.json").read_bytes()
    return tiny_task_data(
        model_path="models/base",
        test_path="tests/rows.json",
        test_sha256=hashlib.sha256(rows).hexdigest(),
        test_rows=60,
        dataset_type=InstructDatasetType(field_instruction="instruct", field_input="input", field_output="output"),
    )


@pytest.mark.slow
def test_a_real_checkpoint_is_measured_in_the_sandbox(sandboxed: Settings, task: TaskData) -> None:
    expected = json.loads((FILES / "expected.json").read_text())["instruct_full"]["value"]
    with evaluator(sandboxed) as opened:
        opened.warm_up()
        checkouts = sandboxed.data / "checkouts"
        for name in ("one", "two"):  # the second one comes after the process has started
            shutil.copytree(FILES / "instruct_full", checkouts / name)
            got = opened.evaluate(TaskType.INSTRUCT, task, checkouts / name, SEED)
            assert got.value == pytest.approx(expected, abs=1e-5)
            assert got.environment["threads"] == "1"
        (checkouts / "two" / "evil.py").touch()
        refused = opened.evaluate(TaskType.INSTRUCT, task, checkouts / "two", SEED, rehearse=True)
        assert "'evil.py' is refused" in refused.refused
        gone = task.model_copy(update={"test_path": "tests/gone.json"})
        with pytest.raises(EvaluatorCrashed, match=r"no file with rows|cannot be read") as caught:
            opened.evaluate(TaskType.INSTRUCT, gone, checkouts / "one", SEED)
        assert not isinstance(caught.value, EvaluatorDied)


@pytest.mark.slow
def test_a_tasks_own_functions_run_within_the_same_walls(sandboxed: Settings) -> None:
    source = (
        "def online(completions, **kwargs):\n"
        "    import socket\n"
        "    try:\n        socket.create_connection(('127.0.0.1', 9), 1)\n"
        "    except OSError as problem:\n        assert 'refused' in str(problem) or 'unreachable' in str(problem)\n"
        "    return [0.5 + 0.01 * text.count('e') for text in completions]\n"
    )
    rows = FILES / "data" / "grpo_test.json"
    shutil.copy(rows, sandboxed.data / "tests" / "grpo.json")
    function = RewardFunction(reward_func=source, reward_weight=1.0, low=0.0, high=100.0)
    task = tiny_task_data(
        model_path="models/base",
        test_path="tests/grpo.json",
        test_sha256=hashlib.sha256(rows.read_bytes()).hexdigest(),
        dataset_type=GrpoDatasetType(reward_functions=(function,)),
    )
    shutil.copytree(FILES / "dpo_full", sandboxed.data / "checkouts" / "one")
    with evaluator(sandboxed) as opened:
        got = opened.evaluate(TaskType.GRPO, task, sandboxed.data / "checkouts" / "one", SEED)
    assert got.refused == ""
    assert -1 < got.value < 1


@pytest.mark.slow
def test_too_little_memory_is_the_operators_affair(sandboxed: Settings, task: TaskData) -> None:
    shutil.copytree(FILES / "instruct_full", sandboxed.data / "checkouts" / "one")
    reading = Reading((sandboxed.data,), (), 160 * 2**20)
    with SandboxedEvaluator(sandboxed.data, reading, 60.0, isolated=True) as opened:
        with pytest.raises(EvaluatorCrashed) as caught:
            opened.evaluate(TaskType.INSTRUCT, task, sandboxed.data / "checkouts" / "one", SEED, rehearse=True)
        assert not isinstance(caught.value, EvaluatorDied)


# --- where it has to be isolated


@pytest.mark.parametrize(("kind", "there", "isolated"), [
    ("docker", True, True), ("docker", False, True), ("bubblewrap", False, True),
    ("auto", True, True), ("auto", False, False), ("process", True, False),
])  # fmt: skip
def test_strangers_checkpoints_are_never_read_without_a_sandbox(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str, there: bool, isolated: bool
) -> None:
    why = "" if there else "bubblewrap is not installed"

    def why_not() -> str:
        return why

    why_not.cache_clear = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr(bubblewrap, "why_not", why_not)
    chosen = settings.model_copy(update={"sandbox": Sandbox.model_validate({"kind": kind})})
    assert is_isolated(chosen) is isolated
    if isolated and not there:
        with pytest.raises(ConfigError, match="no stranger's checkpoint is evaluated without a sandbox"):
            check_evaluator(chosen)
    else:
        check_evaluator(chosen)
