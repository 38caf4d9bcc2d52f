"""A submission's config.json: what training tools rewrite passes, what would be another model does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.base_model import BaseModel
from tourney_ray.evaluation.model_config import check_config

ROPE = {"rope_theta": 10000.0, "rope_type": "default"}


@pytest.fixture
def config(files: Path) -> dict[str, Any]:
    return json.loads((files / "instruct_full" / "config.json").read_text())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "use_cache": False,
            "transformers_version": "4.55.4",
            "torch_dtype": "bfloat16",
            "_name_or_path": "/cache/base",
        },
        {"dtype": "bfloat16", "pad_token_id": 0, "eos_token_id": [0, 1], "bos_token_id": 0},
        {"rope_parameters": ..., "rope_theta": 10000, "rope_scaling": None},
        {"layer_types": ["full_attention"] * 3, "return_dict": True, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}},
        {"sliding_window": ..., "attention_dropout": ..., "hidden_act": ...},
        {"rms_norm_eps": 0.000001, "max_window_layers": 28.0},
        {"auto_map": None, "quantization_config": None, "tomorrows_field": None},
        {"rope_parameters": ...},
    ],
)
def test_rewritten_configurations_pass(config: dict[str, Any], base: BaseModel, fields: dict[str, Any]) -> None:
    check_config(changed(config, fields), base.reference.config)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rope_parameters": ROPE | {"rope_theta": 500000.0}}, "'rope_parameters' is"),
        ({"rope_parameters": ROPE | {"rope_type": "yarn", "factor": 4.0}}, "'rope_parameters' is"),
        ({"rope_theta": 500000.0}, "'rope_theta' is 500000.0, the base model's is None"),
        ({"rope_parameters": ..., "rope_theta": 5000.0}, "'rope_parameters' is"),
        ({"rope_parameters": ..., "rope_theta": 1e4, "rope_scaling": {"factor": 2.0}}, "'rope_parameters' is"),
        ({"rope_parameters": ..., "rope_theta": 1e4, "rope_scaling": "yarn"}, "'rope_parameters' is"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "'rope_scaling' is"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map is set, and it names code to load"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantization_config is set"),
        ({"_attn_implementation": "flash_attention_2"}, "'_attn_implementation' is 'flash_attention_2'"),
        ({"attn_implementation": "evil/kernel"}, "'attn_implementation' is"),
        ({"num_hidden_layers": 2}, "'num_hidden_layers' is 2, the base model's is 3"),
        ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
        ({"tie_word_embeddings": 1}, "'tie_word_embeddings' is 1, the base model's is True"),
        ({"tie_word_embeddings": ...}, "it lacks tie_word_embeddings"),
        ({"rms_norm_eps": 1e-5}, "'rms_norm_eps' is"),
        ({"architectures": ["LlamaForCausalLM"]}, "'architectures' is"),
        ({"vocab_size": ...}, "it lacks vocab_size"),
        ({"new_field": 0}, "'new_field' is 0, the base model's is None"),
    ],
)
def test_other_models_are_refused(config: dict[str, Any], base: BaseModel, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointInvalid) as caught:
        check_config(changed(config, fields), base.reference.config)
    assert words in caught.value.message


def changed(config: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (config | fields).items() if value is not ...}
