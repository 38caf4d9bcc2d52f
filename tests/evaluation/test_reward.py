"""The GRPO value: numbers computed by hand, what entrants share, and that the same is the same everywhere."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tourney_ray.core.dataset_types import ChatDatasetType, DpoDatasetType, GrpoDatasetType, RewardFunction
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.errors import ConfigError, EvaluatorCrashed
from tourney_ray.evaluation import reward
from tourney_ray.evaluation.base_model import BaseModel
from tourney_ray.evaluation.reward import Reference, divergence, longest_prompt, tokenise, values
from tourney_ray.evaluation.worker import WarmEvaluator

SEED = bytes(32)
LETTERS = (
    "def letters(completions, **kwargs):\n    return [text.count('e') / max(1, len(text)) for text in completions]"
)
THINGS = (
    "import json\ndef things(completions, extra_data):\n"
    "    return [float(json.loads(it)['thing'][0] in text) for it, text in zip(extra_data, completions, strict=True)]"
)


def reward_of(source: str, weight: float = 1.0, low: float = 0.0, high: float = 1.0) -> RewardFunction:
    return RewardFunction(reward_func=source, reward_weight=weight, low=low, high=high)


COLUMNS = GrpoDatasetType(
    extra_column="extra_data", reward_functions=(reward_of(LETTERS, 0.25, 0, 0.2), reward_of(THINGS, 0.75))
)


def always(number: float) -> str:
    return f"def f(completions):\n    return [{number}] * len(completions)"


@pytest.fixture(scope="module")
def evaluator(files: Path) -> WarmEvaluator:
    return WarmEvaluator(files, list)


@pytest.fixture
def data(task_of: Any) -> TaskData:
    return task_of("data/grpo_test.json", COLUMNS)


def of(data: TaskData, *functions: RewardFunction) -> TaskData:
    return data.model_copy(update={"dataset_type": GrpoDatasetType(reward_functions=functions)})


# --- the formula


def test_a_value_by_hand() -> None:
    functions = [reward_of("f", 0.25, 0, 10), reward_of("g", 0.75, -1, 1)]
    got = values(functions, [[2.0, 8.0], [0.0, 1.0]], [0.1, 0.3])
    assert got == pytest.approx((0.25 * 0.2 + 0.75 * 0.5 - 0.05, 0.25 * 0.8 + 0.75 * 1.0 - 0.15))


@pytest.mark.parametrize(("raw", "scaled"), [((12.0, 20.0), 1.0), ((-9.0, 3.0), 0.0), ((1.0, 9.0), 0.5), ((4, 4), 0.4)])
def test_the_mean_reward_is_clipped_at_both_ends(raw: Sequence[float], scaled: float) -> None:
    got = values([reward_of("f", 1, 0, 10)], [raw], [0.0, 0.0])
    assert math.fsum(got) / 2 == pytest.approx(scaled, abs=1e-12)
    assert got[1] - got[0] == pytest.approx((raw[1] - raw[0]) / 10)


def test_rewards_too_large_to_be_added_up_are_our_fault() -> None:
    with pytest.raises(EvaluatorCrashed, match="too large"):
        values([reward_of("f")], [[1.7e308, 1.7e308]], [0.0, 0.0])


def test_a_divergence_by_hand() -> None:
    base = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25]]).log()
    tuned = torch.tensor([[0.25, 0.25, 0.5], [0.25, 0.25, 0.5]]).log()
    second = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert divergence(base, tuned) == pytest.approx((math.log(2) + second) / 2, abs=1e-7)
    assert divergence(base, base) == 0
    assert math.isnan(divergence(base, torch.full((2, 3), math.nan)))


def test_the_base_diverges_from_itself_by_nothing(files, evaluator, data) -> None:
    task = of(data, reward_of(always(0.7), 0.5), reward_of(always(3), 0.25, 0, 4), reward_of(always(-5), 0.25))
    got = evaluator.evaluate(TaskType.GRPO, task, files / "base", SEED)
    assert got.per_row == pytest.approx((0.5 * 0.7 + 0.25 * 0.75,) * 30, abs=1e-12)
    assert not got.fine_tuned


def test_a_value_is_the_mean_of_its_rows_and_falls_with_the_distance(files, evaluator, data) -> None:
    got = evaluator.evaluate(TaskType.GRPO, of(data, reward_of(always(0.5))), files / "dpo_full", SEED)
    assert math.fsum(got.per_row) / 30 == pytest.approx(got.value, abs=1e-12)
    assert all(row < 0.5 for row in got.per_row)
    assert got.environment["batch"] == "16"


def test_a_model_without_probabilities_has_no_value(files, evaluator, data, full, load_tensors, save_tensors) -> None:
    tensors = load_tensors(full / "model.safetensors")
    save_tensors(full / "model.safetensors", {name: torch.full_like(tensor, 3e38) for name, tensor in tensors.items()})
    got = evaluator.evaluate(TaskType.GRPO, data, full, SEED)
    assert math.isnan(got.value)
    assert len(got.per_row) == 30


# --- what is shared, and what is the same


def test_what_the_base_says_is_computed_once_for_all_entrants(files, data, monkeypatch) -> None:
    read: list[int] = []
    probabilities = reward._log_probabilities
    monkeypatch.setattr(reward, "_log_probabilities", lambda *it: read.append(1) or probabilities(*it))
    evaluator = WarmEvaluator(files, list)
    for count in (2, 3, 4):
        evaluator.evaluate(TaskType.GRPO, data, files / "dpo_full", SEED)
        assert len(read) == count * 30


def test_what_does_not_fit_into_memory_is_computed_again_to_the_same(files, evaluator, data, monkeypatch) -> None:
    kept = evaluator.evaluate(TaskType.GRPO, data, files / "dpo_full", SEED)
    monkeypatch.setattr(reward, "KEPT_BYTES", 150_000)
    again = WarmEvaluator(files, list).evaluate(TaskType.GRPO, data, files / "dpo_full", SEED)
    assert again.per_row == kept.per_row


def test_less_is_kept_than_the_limit(base: BaseModel, monkeypatch) -> None:
    prompts = [reward.Prompt((5, 6, 7), None)] * 4
    monkeypatch.setattr(reward, "KEPT_BYTES", 2 * 3 * 1024 * 4)
    reference = Reference(base, prompts)
    assert len(reference._kept) == 2
    assert reference.divergences() == [0.0] * 4


def test_the_same_is_the_same_in_this_process_and_in_another(files, evaluator, data, task_of) -> None:
    tasks = {
        TaskType.GRPO: data,
        TaskType.DPO: task_of("data/dpo_test.json", DpoDatasetType()),
        TaskType.CHAT: task_of("data/chat_test.json", ChatDatasetType()),
    }
    ours = [evaluator.evaluate(kind, task, files / "dpo_full", SEED).per_row for kind, task in tasks.items()]
    again = [evaluator.evaluate(kind, task, files / "dpo_full", SEED).per_row for kind, task in tasks.items()]
    code = (
        "import json, sys; from pathlib import Path; from tourney_ray.core.models import TaskData, TaskType\n"
        "from tourney_ray.evaluation.worker import WarmEvaluator\n"
        "files = Path(sys.argv[1]); evaluator = WarmEvaluator(files, list)\n"
        "tasks = {TaskType(kind): TaskData.model_validate(task) for kind, task in json.load(sys.stdin).items()}\n"
        "print(json.dumps([evaluator.evaluate(kind, task, files / 'dpo_full', bytes(32)).per_row"
        " for kind, task in tasks.items()]))"
    )
    asked = json.dumps({kind.value: task.model_dump(mode="json") for kind, task in tasks.items()})
    done = subprocess.run(
        [sys.executable, "-c", code, files], input=asked, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert ours == again == [tuple(rows) for rows in json.loads(done.stdout)]


def test_another_seed_draws_others(files, evaluator, data) -> None:
    one = evaluator.evaluate(TaskType.GRPO, data, files / "dpo_full", SEED)
    other = evaluator.evaluate(TaskType.GRPO, data, files / "dpo_full", b"\1" * 32)
    assert one.per_row != other.per_row
    assert one.value == pytest.approx(other.value, abs=0.1)


# --- tasks that cannot be evaluated


def test_without_a_launcher_no_reward_function_runs(files, data) -> None:
    with pytest.raises(EvaluatorCrashed, match="not told how to start them"):
        WarmEvaluator(files).evaluate(TaskType.GRPO, data, files / "dpo_full", SEED)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1", "reward function 1 defines 0 functions"),
        ("def f(completions):\n    return [1]", "reward function 1 of the task (f) gave 1 rewards for 60 completions"),
        ("def f(completions):\n    return 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_faults_of_reward_functions_are_never_the_entrants(files, evaluator, data, source: str, words: str) -> None:
    with pytest.raises(EvaluatorCrashed) as caught:
        evaluator.evaluate(TaskType.GRPO, of(data, reward_of(source)), files / "dpo_full", SEED)
    assert words in caught.value.message


def test_the_end_of_a_long_prompt_is_read_and_empty_prompts_are_dropped(base: BaseModel) -> None:
    columns = COLUMNS.model_copy(update={"extra_column": None})
    rows = [{"prompt": ""}, {"prompt": "a b c"}, {"prompt": None}]
    (prompt,) = tokenise(rows, columns, base.tokenizer, 2)
    whole = base.tokenizer.encode("a b c", add_special_tokens=False, truncation=False, verbose=False)
    assert prompt.ids == tuple(whole[-2:])
    with pytest.raises(ConfigError, match="all of 2 prompts are empty"):
        tokenise([{"prompt": ""}] * 2, columns, base.tokenizer, 2)
    with pytest.raises(ConfigError, match="row 1 has no column 'extra_data'"):
        tokenise([{"prompt": "a"}], COLUMNS, base.tokenizer, 2)


@pytest.mark.parametrize(
    ("max_position", "sequence_len", "length"),
    [(512, None, 256), (512, 100, 100), (4096, None, 512), (None, None, 512), (None, 2000, 512), (257, 9, 1)],
)
def test_a_prompt_leaves_room_for_its_completion(base: BaseModel, max_position, sequence_len, length: int) -> None:
    model = BaseModel(base.model, base.tokenizer, base.places, base.reference, max_position)
    assert longest_prompt(model, sequence_len) == length


def test_a_base_without_room_for_a_completion(base: BaseModel) -> None:
    with pytest.raises(ConfigError, match="reads 256 tokens, too few"):
        longest_prompt(BaseModel(base.model, base.tokenizer, base.places, base.reference, 256), None)
