"""Adapters that ask for more than plain LoRA on linear modules of the base."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.conftest import need_tool
from tests.evaluation.court import Court, court_in
from tests.evaluation.spoiling import (
    ADAPTER,
    INDEX,
    LORA,
    TO_Q,
    Hostile,
    content,
    lora,
    many_ranked,
    pickled,
    ranked,
    tensors,
)

pytestmark = pytest.mark.slow

ADAPTERS: dict[str, Hostile] = {
    name: Hostile(spoil, words, "instruct_lora")
    for name, spoil, words in (
        ("auto_mapping", lora(auto_mapping={"base_model_class": "x", "parent_library": "os"}), "'auto_mapping' is"),
        ("megatron", lora(megatron_config={"tensor_model_parallel_size": 1}), "'megatron_config' is"),
        ("a library of its own", lora(megatron_core="os"), "megatron_core is 'os'"),
        ("layers replicated", lora(layer_replication=[[0, 3], [0, 3]]), "'layer_replication' is"),
        ("whole modules", lora(modules_to_save=["lm_head"]), "'modules_to_save' is"),
        ("a pattern of targets", lora(target_modules="(a+)+$"), "not a pattern"),
        ("a pattern in the list", lora(target_modules=[".*"]), "has to hold plain module names"),
        ("all linear", lora(target_modules="all-linear"), "not a pattern"),
        ("targets without end", lora(target_modules=["q_proj"] * 300), "it has to be a list of module names"),
        ("targets of another model", lora(target_modules=["c_attn"]), "name no linear module of the base model"),
        ("a target that is no linear module", lora(target_modules=["embed_tokens"]), "name no linear module"),
        ("a huge rank", many_ranked, "r is 1073741824, it has to be a whole number from 1 to 256"),
        ("a rank above the most", ranked(257), "r is 257"),
        ("no rank", lora(r=0), "r is 0"),
        ("a rank of truth", lora(r=True), "r is True"),
        ("another rank than its tensors", lora(r=16), "has shape [8, "),
        ("a rank for each", lora(rank_pattern={"q_proj": 256}), "'rank_pattern' is"),
        ("an alpha for each", lora(alpha_pattern={"q_proj": 1e9}), "'alpha_pattern' is"),
        ("an alpha beyond all", lora(lora_alpha=1e30), "lora_alpha is 1e+30"),
        ("an alpha of nothing", lora(lora_alpha=0), "lora_alpha is 0"),
        ("DoRA", lora(use_dora=True), "'use_dora' is True; only plain LoRA is accepted"),
        ("a bias", lora(bias="all"), "bias is 'all'"),
        ("a bias of its own", lora(lora_bias=True), "'lora_bias' is True"),
        ("weights that change the base", lora(init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
        ("tokens of its own", lora(trainable_token_indices=[1, 2]), "'trainable_token_indices' is"),
        ("parameters for targets", lora(target_parameters=["mlp.weight"]), "'target_parameters' is"),
        ("another method", lora(peft_type="PROMPT_TUNING"), "peft_type is 'PROMPT_TUNING'"),
        ("quantised", lora(loftq_config={"bits": 4}), "'loftq_config' is"),
        ("a field of nobody's", lora(evil=1), "'evil' is 1"),
        (
            "not a number",
            tensors(lambda it: it[f"{TO_Q}.lora_B.weight"].fill_(torch.nan), ADAPTER),
            f"'{TO_Q}.lora_B.weight' holds values that are not finite",
        ),
        (
            "a product beyond fp32",
            tensors(lambda it: [tensor.fill_(1e30) for tensor in it.values()], ADAPTER),
            "holds values that are not finite",
        ),
        (
            "a vector of magnitudes",
            tensors(lambda it: it.update({f"{TO_Q}.lora_magnitude_vector": torch.ones(96)}), ADAPTER),
            "hold 1 tensors that the model does not have",
        ),
        ("half of a pair", tensors(lambda it: it.pop(f"{TO_Q}.lora_A.weight"), ADAPTER), "lack 1 tensors"),
        ("no tensors", lambda at: (at / ADAPTER).unlink(), "the adapter lacks adapter_model.safetensors"),
        ("no config", lambda at: (at / LORA).unlink(), "the adapter lacks adapter_config.json"),
        ("a pickle", pickled("adapter_model.bin"), ".bin files are never opened"),
        ("an index", content(INDEX, b"{}"), "which belongs to a full model"),
    )
}
"""What an adapter asks for."""


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    need_tool("bwrap")
    with court_in(tmp_path_factory.mktemp("court") / "checkouts") as opened:
        yield opened


def test_an_honest_adapter_passes(court: Court) -> None:
    got = court.evaluated(Hostile(lambda at: None, "", "instruct_lora"))
    assert (got.refused, got.fine_tuned, len(got.per_row)) == ("", True, 60)


@pytest.mark.parametrize("name", ADAPTERS)
def test_hostile_adapters(court: Court, name: str) -> None:
    court.convict(ADAPTERS[name])
