"""LoRA adapters: plain ones merge as peft merges them, everything else is refused by the name of its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.adapter import read_settings
from tourney_ray.evaluation.base_model import BaseModel
from tourney_ray.evaluation.checkpoint import load, scan

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


def refusal(checkpoint: Path, base: BaseModel) -> str:
    with pytest.raises(CheckpointInvalid) as caught:
        load(scan(checkpoint, base.reference), base.reference, base.places)
    return caught.value.message


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_the_merge_is_pefts(lora: Path, base: BaseModel, edit_json, merged_by_peft, rank_stabilised: bool) -> None:
    edit_json(lora / CONFIG, {"use_rslora": rank_stabilised})
    merged = merged_by_peft(lora)
    ours = load(scan(lora, base.reference), base.reference, base.places)
    assert all(torch.allclose(tensor, merged[name], rtol=0, atol=1e-6) for name, tensor in ours.items())
    untouched = base.places.keys() - ours.keys()
    assert all(torch.equal(base.places[name], merged[name]) for name in untouched)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"use_dora": True}, "'use_dora' is True; only plain LoRA is accepted"),
        ({"use_dora": 0}, "'use_dora' is 0"),
        ({"auto_mapping": {"base_model_class": "Evil"}}, "'auto_mapping' is"),
        ({"megatron_config": {"a": 1}}, "'megatron_config' is"),
        ({"megatron_core": "evil.core"}, "megatron_core is 'evil.core'"),
        ({"layer_replication": [[0, 3], [1, 3]]}, "'layer_replication' is"),
        ({"modules_to_save": ["lm_head"]}, "'modules_to_save' is ['lm_head']"),
        ({"rank_pattern": {"q_proj": 64}}, "'rank_pattern' is"),
        ({"alpha_pattern": {"q_proj": 64}}, "'alpha_pattern' is"),
        ({"layers_to_transform": [0]}, "'layers_to_transform' is [0]"),
        ({"fan_in_fan_out": True}, "'fan_in_fan_out' is True"),
        ({"lora_bias": True}, "'lora_bias' is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"trainable_token_indices": [0]}, "'trainable_token_indices' is"),
        ({"tomorrows_field": "x"}, "'tomorrows_field' is 'x'"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"init_lora_weights": 1}, "init_lora_weights is 1"),
        ({"r": 257}, "r is 257, it has to be a whole number from 1 to 256"),
        ({"r": 0}, "r is 0"),
        ({"r": True}, "r is True"),
        ({"r": 8.0}, "r is 8.0"),
        ({"r": ...}, "r is None"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"lora_alpha": "16"}, "lora_alpha is '16'"),
        ({"lora_alpha": True}, "lora_alpha is True"),
        ({"lora_alpha": 1e9}, "lora_alpha is 1000000000.0"),
        ({"use_rslora": "yes"}, "use_rslora is 'yes'"),
        ({"target_modules": ".*_proj"}, "it has to be a list of module names, not a pattern"),
        ({"target_modules": "all-linear"}, "it has to be a list of module names, not a pattern"),
        ({"target_modules": []}, "it has to be a list of module names"),
        ({"target_modules": [".*_proj"]}, "has to hold plain module names"),
        ({"target_modules": [7]}, "has to hold plain module names"),
        ({"target_modules": ["c_attn"]}, "name no linear module of the base model"),
        ({"target_modules": ["embed_tokens"]}, "name no linear module of the base model"),
        ({"target_modules": ["lm_head"]}, "name no linear module of the base model"),
        ({"target_modules": ["q_proj"]}, "tensors that the model does not have"),
        ({"r": 16}, "has shape [8, 256], the model's is [16, 256]"),
    ],
)
def test_adapters_that_ask_for_more_are_refused(lora, base, edit_json, fields: dict[str, Any], words: str) -> None:
    edit_json(lora / CONFIG, fields)
    assert words in refusal(lora, base)


def test_the_base_that_an_adapter_names_is_ignored(lora: Path, base: BaseModel, edit_json) -> None:
    edit_json(lora / CONFIG, {"base_model_name_or_path": "/etc", "revision": "evil", "lora_dropout": 0.9})
    assert scan(lora, base.reference).lora is not None


def test_targets_that_the_base_lacks_are_passed_over(lora: Path, base: BaseModel, edit_json) -> None:
    targets = ["q_proj", "k_proj", "v_proj", "self_attn.o_proj", "gate_proj", "up_proj", "down_proj", "lm_head", "w1"]
    edit_json(lora / CONFIG, {"target_modules": targets})
    assert len(load(scan(lora, base.reference), base.reference, base.places)) == 21


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_half_an_adapter(lora: Path, base: BaseModel, missing: str) -> None:
    (lora / missing).unlink()
    assert refusal(lora, base) == f"the adapter lacks {missing}"


def test_an_adapter_with_an_index(lora: Path, base: BaseModel) -> None:
    (lora / "model.safetensors.index.json").write_text("{}")
    assert "belongs to a full model" in refusal(lora, base)


def test_an_adapter_with_a_changed_config(lora: Path, files: Path, base: BaseModel, edit_json) -> None:
    (lora / "config.json").write_bytes((files / "base" / "config.json").read_bytes())
    assert scan(lora, base.reference).lora is not None
    edit_json(lora / "config.json", {"rope_theta": 1.0})
    assert "'rope_theta' is 1.0" in refusal(lora, base)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it.update({"base_model.model.lm_head.weight": torch.ones(1024, 96)}), "hold 1 tensors that"),
        (lambda it: it.update({f"{Q0}.lora_magnitude_vector": torch.ones(96)}), "hold 1 tensors that"),
        (lambda it: it.pop(f"{Q0}.lora_B.weight"), "lack 1 tensors of the model"),
        (lambda it: it.update({f"{Q0}.lora_A.weight": it[f"{Q0}.lora_A.weight"].T}), "has shape [96, 8]"),
        (lambda it: it[f"{Q0}.lora_A.weight"].fill_(torch.nan), "holds values that are not finite"),
        (
            lambda it: [it[f"{Q0}.lora_{half}.weight"].fill_(3e38) for half in "AB"],
            "'model.layers.0.self_attn.q_proj.w",
        ),
    ],
    ids=["head", "dora", "no B", "transposed", "nan", "overflow"],
)
def test_other_tensors_than_the_adapters_are_refused(lora, base, load_tensors, save_tensors, change, words) -> None:
    tensors = load_tensors(lora / WEIGHTS)
    change(tensors)
    save_tensors(lora / WEIGHTS, tensors)
    assert words in refusal(lora, base)


def test_the_scale_is_alpha_by_rank_or_by_its_root() -> None:
    config = {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj"]}
    assert read_settings(config).scale == 2
    assert read_settings(config | {"use_rslora": True}).scale == 8
