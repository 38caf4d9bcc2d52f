"""One image LoRA through the warm evaluator and the command line's function."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tourney_ray.core.dataset_types import ImageDatasetType, InstructDatasetType
from tourney_ray.core.models import Evaluated, TaskData, TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.errors import CheckpointInvalid, ConfigError, EvaluatorCrashed, NotFound
from tourney_ray.evaluation.image.archive import packed
from tourney_ray.evaluation.image.pipeline import Pipeline, load_base
from tourney_ray.evaluation.image.scoring import prepare
from tourney_ray.evaluation.kinds import KINDS, kind_of
from tourney_ray.evaluation.rows import read_dataset_type
from tourney_ray.evaluation.worker import Question, WarmEvaluator, evaluate_files
from tourney_ray.samples.pictures import make_pairs
from tourney_ray.samples.pipelines import ensure_pipeline, image_type

BOTH = pytest.mark.parametrize("model_type", ["sdxl", "flux"])
MODULES = {
    "sdxl": ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "unet.down_blocks.1.attentions.0.proj_in"),
    "flux": ("transformer.transformer_blocks.1.attn.to_q", "transformer.single_transformer_blocks.0.proj_mlp"),
}
TEXT = "text_encoder.encoder.layers.0.mlp.fc1"


@pytest.fixture
def scored(pipelines: Callable[[str], Pipeline], task_on, write_lora) -> Callable[..., Evaluated]:
    """The result of tensors on a type of pipeline."""

    def score(model_type: str, tensors: dict[str, torch.Tensor], **changes: Any) -> Evaluated:
        return prepare(pipelines(model_type), task_on(model_type, **changes))(write_lora(tensors))

    return score


@BOTH
def test_the_value_is_a_quarter_and_three_quarters(scored, pipelines, noisy_lora, model_type: str) -> None:
    got = scored(model_type, noisy_lora(pipelines(model_type), *MODULES[model_type]))
    assert (got.fine_tuned, got.refused, len(got.per_row)) == (True, "", 2 * 10)
    assert got.value == pytest.approx(math.fsum(got.per_row) / len(got.per_row), rel=1e-9)
    assert len(got.digest) == 64
    assert got.environment["diffusers"] == "0.42.1"
    assert got.environment["attention"] == "sdpa, math"


@BOTH
def test_twice_is_bit_equal_and_the_base_stays_as_it_was(scored, pipelines, noisy_lora, model_type: str) -> None:
    before = {name: tensor.data.clone() for name, tensor in pipelines(model_type).places.items()}
    tensors = noisy_lora(pipelines(model_type), *MODULES[model_type])
    one, two = scored(model_type, tensors), scored(model_type, tensors)
    assert (one.value, one.per_row, one.digest) == (two.value, two.per_row, two.digest)
    assert all(torch.equal(tensor.data, before[name]) for name, tensor in pipelines(model_type).places.items())


@BOTH
def test_a_lora_of_zeros_is_not_fine_tuned(scored, pipelines, noisy_lora, model_type: str) -> None:
    tensors = noisy_lora(pipelines(model_type), *MODULES[model_type])
    zero = {name: tensor * ("lora_A" in name) for name, tensor in tensors.items()}
    got = scored(model_type, zero)
    assert (got.fine_tuned, got.distance) == (False, 0)
    small = scored(model_type, {name: tensor * 1e-6 for name, tensor in tensors.items()})
    assert not small.fine_tuned
    assert small.digest == got.digest


def test_the_same_weights_have_the_same_digest_in_any_dialect(scored, pipelines, noisy_lora) -> None:
    module = MODULES["sdxl"][0]
    tensors = noisy_lora(pipelines("sdxl"), module)
    name = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"
    kohya = {
        f"{name}.lora_down.weight": 2 * tensors[f"{module}.lora_A.weight"],
        f"{name}.lora_up.weight": tensors[f"{module}.lora_B.weight"],
        f"{name}.alpha": torch.tensor(2.0),
    }
    one, two = scored("sdxl", tensors), scored("sdxl", kohya)
    other = scored("sdxl", noisy_lora(pipelines("sdxl"), module, seed=1))
    assert one.digest == two.digest != other.digest
    assert one.value == pytest.approx(two.value, abs=1e-6)


def test_sdxl_reads_captions_with_the_submissions_text_encoders(scored, pipelines, noisy_lora) -> None:
    module = MODULES["sdxl"][0]
    both = noisy_lora(pipelines("sdxl"), module, TEXT, scale=0.6)
    alone = {name: tensor for name, tensor in both.items() if name.startswith("unet")}
    assert scored("sdxl", both).per_row != scored("sdxl", alone).per_row
    assert scored("sdxl", both).digest != scored("sdxl", alone).digest


def test_flux_does_not(scored, pipelines, noisy_lora) -> None:
    module = MODULES["flux"][0]
    both = noisy_lora(pipelines("flux"), module, TEXT, scale=0.6)
    alone = {name: tensor for name, tensor in both.items() if name.startswith("transformer")}
    one, two = scored("flux", both), scored("flux", alone)
    assert (one.per_row, one.digest) == (two.per_row, two.digest)


def test_another_seed_and_another_share_are_other_numbers(pipelines, task_on, write_lora, noisy_lora) -> None:
    from dataclasses import replace

    pipeline, output = pipelines("flux"), write_lora(noisy_lora(pipelines("flux"), *MODULES["flux"]))
    one = prepare(pipeline, task_on("flux"))(output)
    other = prepare(pipeline, task_on("flux", seed=b"\2" * 32))(output)
    guided = prepare(pipeline, replace(task_on("flux"), text_guided_share=1.0))(output)
    free = prepare(pipeline, replace(task_on("flux"), text_guided_share=0.0))(output)
    assert one.value != other.value
    assert one.value == pytest.approx(0.25 * guided.value + 0.75 * free.value, rel=1e-9)


def test_the_task_says_which_loss_decides(scored, pipelines, noisy_lora) -> None:
    tensors = noisy_lora(pipelines("flux"), *MODULES["flux"])
    pixel = scored("flux", tensors, metric="pixel")
    assert 0 < pixel.value < 1
    assert pixel.value != scored("flux", tensors).value
    assert len(pixel.per_row) == 20


def test_weights_that_overflow_give_no_number(scored, pipelines, noisy_lora) -> None:
    got = scored("flux", noisy_lora(pipelines("flux"), *MODULES["flux"], scale=1e17))
    assert math.isnan(got.value)
    assert got.fine_tuned


class Store:
    """A folder of task data as an operator has it, with one image task."""

    def __init__(self, root: Path, model_type: str, **changes: Any) -> None:
        self.root = root
        content = packed(make_pairs(5, 2))
        (root / "test.zip").write_bytes(content)
        (root / "model").symlink_to(ensure_pipeline(model_type))
        given: dict[str, Any] = {
            "model_id": "tourney/tiny", "model_params": 1, "model_path": "model", "dataset_path": "train.zip",
            "dataset_sha256": "0" * 64, "dataset_rows": 18, "test_path": "test.zip", "test_rows": 2,
            "test_sha256": hashlib.sha256(content).hexdigest(), "dataset_type": image_type(model_type),
            "sequence_len": 1,
        }  # fmt: skip
        self.data = TaskData(**(given | changes))


def test_the_driver_gets_numbers_and_reasons(tmp_path: Path, pipelines, write_lora, noisy_lora) -> None:
    store = Store(tmp_path, "flux")
    evaluator = WarmEvaluator(tmp_path)
    good = write_lora(noisy_lora(pipelines("flux"), *MODULES["flux"]))
    got = evaluator.evaluate(TaskType.IMAGE, store.data, good, b"s")
    again = WarmEvaluator(tmp_path, rules=Rules(image_text_guided_share=1.0))
    assert got.fine_tuned
    assert got.value != again.evaluate(TaskType.IMAGE, store.data, good, b"s").value
    bad = evaluator.evaluate(TaskType.IMAGE, store.data, write_lora({"x": torch.ones(1)}), b"s")
    assert "no part of a LoRA" in bad.refused
    assert math.isnan(bad.value)


def test_what_is_at_odds_is_the_platforms_fault(tmp_path: Path, write_lora) -> None:
    output = write_lora({"x": torch.ones(1)})
    store = Store(tmp_path, "flux", dataset_type=image_type("sdxl"))
    with pytest.raises(EvaluatorCrashed, match="the task is sdxl, its base pipeline is flux"):
        WarmEvaluator(tmp_path).evaluate(TaskType.IMAGE, store.data, output, b"s")
    with pytest.raises(EvaluatorCrashed, match="described by a InstructDatasetType"):
        kind_of(TaskType.IMAGE, InstructDatasetType())
    assert kind_of(TaskType.IMAGE, image_type("flux")) is KINDS["flux"]
    assert kind_of(TaskType.IMAGE, image_type("sdxl")) is KINDS["sdxl"]


def test_the_command_line_asks_by_kind(archive: Path, pipelines, write_lora, noisy_lora) -> None:
    output = write_lora(noisy_lora(pipelines("flux"), *MODULES["flux"]))
    given = '{"metric": "denoising", "long_side": 64}'
    got = evaluate_files(Question("flux", ensure_pipeline("flux"), output, archive, given))
    assert len(got.per_row) == 20
    assert read_dataset_type(None, ImageDatasetType, {"model_type": "sdxl"}) == ImageDatasetType(model_type="sdxl")
    with pytest.raises(ConfigError, match="says model_type 'sdxl', asked was for 'flux'"):
        evaluate_files(Question("flux", ensure_pipeline("flux"), output, archive, '{"model_type": "sdxl"}'))


def test_a_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no model_index"):
        load_base(tmp_path)
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    with pytest.raises(ConfigError, match="neither SDXL's nor Flux's"):
        load_base(tmp_path)


def test_a_pipeline_with_a_tensor_missing_is_not_filled_with_noise(tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(ensure_pipeline("flux"), tmp_path / "flux"))
    path = folder / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["proj_out.weight"]
    save_file(tensors, path)
    with pytest.raises(ConfigError, match=r"missing keys: proj_out\.weight"):
        load_base(folder)


def test_a_refused_lora_raises_for_whoever_asks_directly(pipelines, task_on, write_lora) -> None:
    with pytest.raises(CheckpointInvalid, match="no linear module"):
        prepare(pipelines("sdxl"), task_on("sdxl"))(write_lora({"nobody.lora_A.weight": torch.ones(1, 1)}))
