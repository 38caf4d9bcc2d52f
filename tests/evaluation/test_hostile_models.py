"""Full models that lie in their tensors, their index or their configuration, and copies of the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import need_tool
from tests.evaluation.court import Court, court_in
from tests.evaluation.spoiling import (
    ADAPTER,
    CONFIG,
    EMBEDDING,
    HEAD,
    INDEX,
    NORM,
    NOT_TUNED,
    WEIGHTS,
    Hostile,
    config,
    content,
    in_dtype,
    noise,
    scaled,
    sharded,
    shards,
    tensors,
    write_tensors,
)

pytestmark = pytest.mark.slow

TENSORS: dict[str, Hostile] = {
    "not a number": Hostile(
        tensors(lambda it: it[NORM].__setitem__(5, torch.nan)), "'model.norm.weight' holds values that are not finite"
    ),
    "infinity": Hostile(tensors(lambda it: it[EMBEDDING].__setitem__((0, 0), -torch.inf)), "that are not finite"),
    "numbers beyond fp32": Hostile(
        tensors(lambda it: it.update({NORM: torch.full((96,), 1e300, dtype=torch.float64)})), "that are not finite"
    ),
    "a shape of another model": Hostile(
        tensors(lambda it: it.update({NORM: torch.ones(97)})), "'model.norm.weight' has shape [97], the model's is [96]"
    ),
    "a shape turned": Hostile(
        tensors(lambda it: it.update({EMBEDDING: it[EMBEDDING].T})), "has shape [96, 1024], the model's is [1024, 96]"
    ),
    "a larger vocabulary": Hostile(
        tensors(lambda it: it.update({EMBEDDING: torch.zeros(4096, 96)})), "has shape [4096, 96]"
    ),
    "a tensor too many": Hostile(
        tensors(lambda it: it.update({"model.layers.3.mlp.gate_proj.weight": torch.zeros(256, 96)})),
        "hold 1 tensors that the model does not have, among them 'model.layers.3.mlp.gate_proj.weight'",
    ),
    "10,000 empty tensors": Hostile(
        tensors(lambda it: it.update({f"x{n}": torch.zeros(0) for n in range(10_000)})), "more tensors than the model's"
    ),
    "a tensor too few": Hostile(tensors(lambda it: it.pop(NORM)), "lack 1 tensors of the model, among them"),
    "a head of its own": Hostile(
        tensors(lambda it: it.update({HEAD: it[EMBEDDING] * 2})), "'lm_head.weight' differs from model.embed_tokens"
    ),
    "both kinds at once": Hostile(content(ADAPTER, b""), "both an adapter and a full model"),
    "an index that leads out": Hostile(
        sharded(lambda it: it.update({NORM: "../../base/model.safetensors"})), "which is not in the folder"
    ),
    "an absolute index": Hostile(sharded(lambda it: it.update({NORM: "/etc/passwd"})), "which is not in the folder"),
    "an index of a missing shard": Hostile(
        sharded(lambda it: it.update({NORM: "model-00009-of-00009.safetensors"})), "which is not in the folder"
    ),
    "an index of another shard": Hostile(
        sharded(lambda it: it.update({NORM: "model-00001-of-00002.safetensors"})), "does not agree with the shards"
    ),
    "an index that forgets": Hostile(sharded(lambda it: it.pop(NORM)), "about tensor 'model.norm.weight'"),
    "an index that invents": Hostile(
        sharded(lambda it: it.update({"evil": "model-00001-of-00002.safetensors"})), "about tensor 'evil'"
    ),
    "shards without an index": Hostile(shards, "is sharded (2 files) without model.safetensors.index.json"),
    "a tensor in two shards": Hostile(
        lambda at: (sharded(lambda it: None)(at), write_tensors(at / WEIGHTS, {NORM: torch.ones(96)})),
        "'model.norm.weight' is stored in more than one file",
    ),
    "an index of lists": Hostile(
        lambda at: (shards(at), (at / INDEX).write_text('{"weight_map": []}')), "it has no weight_map"
    ),
}
"""What the tensors are."""

CONFIGS: dict[str, Hostile] = {
    "code by name": Hostile(
        config(auto_map={"AutoModel": "evil--modeling.Evil"}), "auto_map is set, and it names code to load"
    ),
    "quantised": Hostile(config(quantization_config={"quant_method": "gptq"}), "quantization_config is set"),
    "another rope": Hostile(
        config(rope_parameters={"rope_type": "default", "rope_theta": 20000.0}), "'rope_parameters' is"
    ),
    "a scaled rope": Hostile(
        config(rope_scaling={"type": "linear", "factor": 4.0}, rope_theta=10000.0, rope_parameters=...), "'rope_par"
    ),
    "another attention": Hostile(config(attn_implementation="flash_attention_2"), "'attn_implementation' is"),
    "a private attention": Hostile(config(_attn_implementation="kernels-community/evil"), "'_attn_implementation' is"),
    "a sliding window": Hostile(config(use_sliding_window=True), "'use_sliding_window' is True"),
    "other layers": Hostile(config(layer_types=["sliding_attention"] * 3), "'layer_types' is"),
    "fewer layers": Hostile(config(num_hidden_layers=2), "'num_hidden_layers' is 2, the base model's is 3"),
    "more heads": Hostile(config(num_attention_heads=8), "'num_attention_heads' is 8"),
    "fewer keys": Hostile(config(num_key_value_heads=1), "'num_key_value_heads' is 1"),
    "a larger hidden size": Hostile(config(hidden_size=10**9), "'hidden_size' is 1000000000"),
    "another activation": Hostile(config(hidden_act="relu"), "'hidden_act' is 'relu'"),
    "another epsilon": Hostile(config(rms_norm_eps=1.0), "'rms_norm_eps' is 1.0"),
    "another architecture": Hostile(config(architectures=["EvilForCausalLM"]), "'architectures' is"),
    "another type": Hostile(config(model_type="llama"), "'model_type' is 'llama'"),
    "an untied head": Hostile(config(tie_word_embeddings=False), "'tie_word_embeddings' is False"),
    "another vocabulary": Hostile(config(vocab_size=2048), "'vocab_size' is 2048"),
    "a longer context": Hostile(config(max_position_embeddings=10**6), "'max_position_embeddings' is 1000000"),
    "a truth for a number": Hostile(config(num_hidden_layers=True), "'num_hidden_layers' is True"),
    "a field left out": Hostile(config(hidden_size=...), "it lacks hidden_size"),
    "a field of nobody's": Hostile(config(evil="x" * 10_000), "'evil' is 'xxx"),
    "no JSON": Hostile(content(CONFIG, b"{"), "'config.json' is refused: it is not sound JSON"),
    "nests": Hostile(content(CONFIG, b"[" * 200_000), "'config.json' is refused: it is not sound JSON"),
    "too long": Hostile(content(CONFIG, b" " * (16 * 2**20 + 1)), "'config.json' is refused: it is longer than"),
    "numbers without end": Hostile(content(CONFIG, b'{"a": ' + b"9" * 100_000 + b"}"), "'config.json' is refused"),
    "none": Hostile(lambda at: (at / CONFIG).unlink(), "holds weights without a config.json"),
}
"""What `config.json` says."""

COPIES: dict[str, Hostile] = {
    "the base itself": Hostile(lambda at: None, NOT_TUNED, "base"),
    "the base in bf16": Hostile(in_dtype(torch.bfloat16), NOT_TUNED, "base"),
    "the base in fp64": Hostile(in_dtype(torch.float64), NOT_TUNED, "base"),
    "the base in shards": Hostile(sharded(lambda it: None), NOT_TUNED, "base"),
    "the base with its head twice": Hostile(
        tensors(lambda it: it.update({HEAD: it[EMBEDDING].clone()})), NOT_TUNED, "base"
    ),
    "the base and noise": Hostile(noise(1e-7), NOT_TUNED, "base"),
    "an adapter of zeros": Hostile(scaled(0.0), NOT_TUNED, "instruct_lora"),
    "an adapter of noise": Hostile(scaled(1e-9), NOT_TUNED, "instruct_lora"),
}
"""What was never trained."""


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    need_tool("bwrap")
    with court_in(tmp_path_factory.mktemp("court") / "checkouts") as opened:
        yield opened


@pytest.mark.parametrize(
    "spoil",
    [
        sharded(lambda it: None),
        tensors(lambda it: it.update({HEAD: it[EMBEDDING].clone()})),
        in_dtype(torch.bfloat16),
        in_dtype(torch.float64),
        config(use_cache=False, torch_dtype="bfloat16", transformers_version="4.46.0"),
    ],
    ids=["sharded, through its index", "a tied head, said twice", "bf16", "fp64", "a config of another version"],
)
def test_what_honest_trainers_write_passes(court: Court, spoil: Callable[[Path], object]) -> None:
    got = court.evaluated(Hostile(spoil, ""))
    assert (got.refused, got.fine_tuned, len(got.per_row)) == ("", True, 60)


@pytest.mark.parametrize("name", TENSORS)
def test_hostile_tensors(court: Court, name: str) -> None:
    court.convict(TENSORS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_configurations(court: Court, name: str) -> None:
    court.convict(CONFIGS[name])


@pytest.mark.parametrize("name", COPIES)
def test_what_was_never_trained_is_marked(court: Court, name: str) -> None:
    court.convict(COPIES[name])
