"""The warm evaluator as the driver uses it, and the function behind the command line."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tourney_ray.core.dataset_types import DpoDatasetType, InstructDatasetType
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.effects.ports import Evaluator
from tourney_ray.errors import ConfigError, EvaluatorCrashed, NotFound, StorageUnavailable
from tourney_ray.evaluation import instruct
from tourney_ray.evaluation.kinds import KINDS, evaluated_types
from tourney_ray.evaluation.worker import TASKS_KEPT, Question, WarmEvaluator, evaluate_files

SEED = b"\0" * 32
COLUMNS = '{"field_instruction": "instruct", "field_input": "input", "field_output": "output"}'


@pytest.fixture
def data(task_of) -> TaskData:
    return task_of("data/instruct_test.json", InstructDatasetType.model_validate_json(COLUMNS))


@pytest.fixture(scope="module")
def evaluator(files: Path) -> Evaluator:
    return WarmEvaluator(files)


def test_the_value_of_a_task(files, evaluator, data, expected) -> None:
    got = evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_full", SEED)
    assert got.value == pytest.approx(expected["instruct_full"]["value"], abs=1e-5)
    assert got.fine_tuned
    assert not got.refused
    assert got.seconds > 0
    assert got.environment["dtype"] == "float32"
    assert got.environment["threads"] == "1"
    assert got.environment["torch"] == torch.__version__


def test_the_base_itself_is_not_fine_tuned(files, evaluator, data) -> None:
    got = evaluator.evaluate(TaskType.INSTRUCT, data, files / "base", SEED)
    assert (got.fine_tuned, got.distance) == (False, 0)
    assert math.isfinite(got.value)


def test_a_copy_has_the_same_digest_in_any_dtype_and_another_model_another(
    files, evaluator, data, full, load_tensors, save_tensors
) -> None:
    one = evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_full", SEED)
    weights = full / "model.safetensors"
    save_tensors(weights, {name: tensor.bfloat16() for name, tensor in load_tensors(weights).items()})
    copy = evaluator.evaluate(TaskType.INSTRUCT, data, full, SEED)
    other = evaluator.evaluate(TaskType.INSTRUCT, data, files / "dpo_full", SEED)
    assert copy.digest == one.digest != other.digest
    assert copy.distance == one.distance


def test_a_lora_equals_its_merge_submitted_whole(
    files, evaluator, data, full, base, save_tensors, merged_by_peft
) -> None:
    adapter = evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_lora", SEED)
    by_peft = merged_by_peft(files / "instruct_lora")
    save_tensors(full / "model.safetensors", {name: by_peft[name] for name in base.places})
    merged = evaluator.evaluate(TaskType.INSTRUCT, data, full, SEED)
    assert adapter.value == pytest.approx(merged.value, abs=1e-5)
    assert adapter.per_row == pytest.approx(merged.per_row, abs=1e-5)
    assert adapter.value == pytest.approx(2.0072, abs=1e-3)


def test_strangers_leave_the_warm_base_as_it_was(files, data, full, monkeypatch, load_tensors, save_tensors) -> None:
    loads: list[Path] = []
    load_base = instruct.load_base
    monkeypatch.setattr(instruct, "load_base", lambda folder: loads.append(folder) or load_base(folder))
    evaluator = WarmEvaluator(files)
    untouched = evaluator.evaluate(TaskType.INSTRUCT, data, files / "base", SEED)
    tensors = load_tensors(full / "model.safetensors")
    tensors["model.norm.weight"][0] = torch.nan
    save_tensors(full / "model.safetensors", tensors)
    before = evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_lora", SEED)
    refused = evaluator.evaluate(TaskType.INSTRUCT, data, full, SEED)
    evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_full", SEED)
    after = evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_lora", SEED)
    again = evaluator.evaluate(TaskType.INSTRUCT, data, files / "base", SEED)
    assert "not finite" in refused.refused
    assert math.isnan(refused.value)
    assert (refused.per_row, refused.fine_tuned, refused.digest) == ((), False, "")
    assert after.model_dump(exclude={"seconds"}) == before.model_dump(exclude={"seconds"})
    assert again.model_dump(exclude={"seconds"}) == untouched.model_dump(exclude={"seconds"})
    assert len(loads) == 1


def test_a_forward_that_breaks_leaves_the_warm_base_as_it_was(files, data, monkeypatch) -> None:
    def out_of_memory(*_: object) -> Any:
        raise RuntimeError("out of memory")

    evaluator = WarmEvaluator(files)
    before = evaluator.evaluate(TaskType.INSTRUCT, data, files / "base", SEED)
    with monkeypatch.context() as broken:
        broken.setattr(instruct, "row_losses", out_of_memory)
        with pytest.raises(EvaluatorCrashed, match="out of memory"):
            evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_full", SEED)
    after = evaluator.evaluate(TaskType.INSTRUCT, data, files / "base", SEED)
    assert (after.value, after.digest) == (before.value, before.digest)


def test_weights_that_overflow_give_no_number(files, evaluator, data, full, load_tensors, save_tensors) -> None:
    tensors = load_tensors(full / "model.safetensors")
    save_tensors(full / "model.safetensors", {name: torch.full_like(tensor, 3e38) for name, tensor in tensors.items()})
    got = evaluator.evaluate(TaskType.INSTRUCT, data, full, SEED)
    assert math.isnan(got.value)
    assert got.distance > 1e30


def test_another_base_is_loaded_anew(files: Path, data: TaskData, tmp_path: Path) -> None:
    root = Path(shutil.copytree(files, tmp_path / "root"))
    evaluator = WarmEvaluator(root)
    first = evaluator.evaluate(TaskType.INSTRUCT, data, root / "instruct_full", SEED)
    shutil.copyfile(root / "instruct_full" / "model.safetensors", root / "base" / "model.safetensors")
    second = evaluator.evaluate(TaskType.INSTRUCT, data, root / "instruct_full", SEED)
    assert (first.fine_tuned, second.fine_tuned) == (True, False)
    assert first.value == second.value


def test_a_kind_that_is_missing_is_named(files, evaluator, data, monkeypatch) -> None:
    assert evaluated_types() == set(TaskType)
    monkeypatch.delitem(KINDS, "grpo")
    with pytest.raises(EvaluatorCrashed, match="GrpoTask is not evaluated by this version"):
        evaluator.evaluate(TaskType.GRPO, data, files / "instruct_full", SEED)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"test_sha256": "1" * 64}, StorageUnavailable, "is not the task's test set"),
        ({"test_path": "data/none.json"}, StorageUnavailable, "cannot be read"),
        ({"model_path": "none"}, EvaluatorCrashed, "no model in"),
        ({"model_path": "instruct_lora"}, EvaluatorCrashed, "no model in"),
        ({"dataset_type": InstructDatasetType()}, EvaluatorCrashed, "row 1 has no column 'instruction'"),
        (
            {"dataset_type": DpoDatasetType()},
            EvaluatorCrashed,
            "by a DpoDatasetType, it has to be a InstructDatasetType",
        ),
        ({"sequence_len": 2}, EvaluatorCrashed, "none of 60 rows fits into 2 tokens"),
    ],
)
def test_our_own_faults_are_never_the_entrants(files, evaluator, data, fields, error, words) -> None:
    with pytest.raises(error, match=words):
        evaluator.evaluate(TaskType.INSTRUCT, data.model_copy(update=fields), files / "instruct_full", SEED)


def test_a_checkpoint_that_was_not_collected_is_our_fault(tmp_path, evaluator, data) -> None:
    with pytest.raises(StorageUnavailable, match="no checkpoint at"):
        evaluator.evaluate(TaskType.INSTRUCT, data, tmp_path / "none", SEED)


def test_the_command_line_evaluates_files(files: Path, expected: dict[str, Any]) -> None:
    rows = files / "data" / "instruct_test.json"
    got = evaluate_files(Question("instruct", files / "base", files / "instruct_full", rows, COLUMNS))
    assert got.value == pytest.approx(expected["instruct_full"]["value"], abs=1e-5)


def test_the_command_line_reports_a_refusal(files: Path, full: Path) -> None:
    (full / "evil.py").touch()
    rows = files / "data" / "instruct_test.json"
    got = evaluate_files(Question("instruct", files / "base", full, rows, COLUMNS, 256))
    assert "'evil.py' is refused" in got.refused


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"kind": "haiku"}, ConfigError, "'haiku' is not evaluated by this version"),
        ({"base": Path("none")}, NotFound, "no base model at none"),
        ({"checkpoint": Path("none")}, NotFound, "no checkpoint at none"),
        ({"rows": Path("none")}, NotFound, "no file with rows at none"),
        ({"dataset_type": "{"}, ConfigError, "the dataset type is not valid"),
        ({"dataset_type": "none.json"}, ConfigError, "neither a JSON object nor a file"),
        ({"seed": -1}, ConfigError, "the seed -1 is not a number of 32 bytes"),
        ({"sequence_len": 0}, ConfigError, "a sequence length of 0"),
        ({"sequence_len": 1}, ConfigError, "none of 60 rows fits into 1 tokens"),
    ],
)
def test_wrong_questions_are_answered_with_a_hint(files, change: dict[str, Any], error: type, words: str) -> None:
    question: dict[str, Any] = {
        "kind": "instruct",
        "base": files / "base",
        "checkpoint": files / "instruct_full",
        "rows": files / "data" / "instruct_test.json",
        "dataset_type": COLUMNS,
    }
    with pytest.raises(error, match=words) as caught:
        evaluate_files(Question(**question | change))
    assert caught.value.hint


def test_importing_the_package_imports_no_torch() -> None:
    code = (
        "import sys, tourney_ray.evaluation.worker; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_tasks_entrants_share_is_computed_once(files: Path, data: TaskData, monkeypatch) -> None:
    tokenised: list[int] = []
    tokenise = instruct.tokenise
    monkeypatch.setattr(
        instruct, "tokenise", lambda texts, *rest: tokenised.append(len(texts)) or tokenise(texts, *rest)
    )
    evaluator = WarmEvaluator(files)
    one = evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_full", SEED)
    evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_lora", SEED)
    again = evaluator.evaluate(TaskType.INSTRUCT, data, files / "instruct_full", SEED)
    assert tokenised == [60]
    assert again.per_row == one.per_row
    shorter = evaluator.evaluate(
        TaskType.INSTRUCT, data.model_copy(update={"sequence_len": 16}), files / "instruct_full", SEED
    )
    assert tokenised == [60, 60]
    assert len(shorter.per_row) < len(one.per_row)


def test_only_the_last_tasks_are_kept(files: Path, data: TaskData) -> None:
    evaluator = WarmEvaluator(files)
    for length in range(40, 40 + 2 * TASKS_KEPT):
        evaluator.evaluate(TaskType.INSTRUCT, data.model_copy(update={"sequence_len": length}), files / "base", SEED)
    assert len(evaluator._tasks) == TASKS_KEPT


def test_a_file_of_two_names_is_refused_unless_the_store_shares_it(
    files: Path, full: Path, evaluator: Evaluator, data: TaskData, tmp_path: Path
) -> None:
    os.link(full / "model.safetensors", tmp_path / "another")
    rows = files / "data" / "instruct_test.json"
    got = evaluate_files(Question("instruct", files / "base", full, rows, COLUMNS, 256))
    assert got.refused == "'model.safetensors' has 2 names on the disk; submit a copy"
    assert evaluator.evaluate(TaskType.INSTRUCT, data, full, SEED).refused == ""
