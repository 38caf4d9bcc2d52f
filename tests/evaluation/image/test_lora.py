"""LoRA files in every dialect, and the ones that are refused."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.image.lora import merge_lora, scan_lora
from tourney_ray.evaluation.image.lora_folder import find_lora
from tourney_ray.evaluation.image.pipeline import Pipeline

Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
FLUX_Q = "transformer.transformer_blocks.1.attn.to_q"


def merged(output: Path, pipeline: Pipeline) -> dict[str, torch.Tensor]:
    path = find_lora(output)
    return merge_lora(scan_lora(path, pipeline.lora), pipeline.places, path)


@pytest.fixture
def sdxl(pipelines) -> Pipeline:
    return pipelines("sdxl")


@pytest.fixture
def flux(pipelines) -> Pipeline:
    return pipelines("flux")


def renamed(tensors: dict[str, torch.Tensor], old: str, new: str, kohya: bool = True) -> dict[str, torch.Tensor]:
    a, b = tensors[f"{old}.lora_A.weight"], tensors[f"{old}.lora_B.weight"]
    down, up = ("lora_down", "lora_up") if kohya else ("lora.down", "lora.up")
    return {f"{new}.{down}.weight": a, f"{new}.{up}.weight": b}


def test_b_times_a_is_added(sdxl, write_lora, noisy_lora) -> None:
    tensors = noisy_lora(sdxl, Q)
    got = merged(write_lora(tensors), sdxl)
    change = tensors[f"{Q}.lora_B.weight"].double() @ tensors[f"{Q}.lora_A.weight"].double()
    assert list(got) == [f"{Q}.weight"]
    torch.testing.assert_close(got[f"{Q}.weight"].double(), sdxl.places[f"{Q}.weight"].double() + change)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Q, ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q",)),
        (Q, ("lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q",)),
        (Q, ("diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q",)),
        (
            "unet.down_blocks.1.attentions.0.proj_in",
            ("lora_unet_input_blocks_3_1_proj_in", "lora_unet_down_blocks_1_attentions_0_proj_in"),
        ),
        (
            "unet.up_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0",
            ("lora_unet_output_blocks_1_1_transformer_blocks_0_attn2_to_out_0",),
        ),
        ("text_encoder.encoder.layers.0.self_attn.q_proj", ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj",)),
        ("text_encoder.encoder.layers.1.mlp.fc1", ("text_encoder.text_model.encoder.layers.1.mlp.fc1",)),
        (
            "text_encoder_2.text_model.encoder.layers.1.mlp.fc2",
            ("lora_te2_text_model_encoder_layers_1_mlp_fc2",),
        ),
    ],
)
def test_the_dialects_of_sdxl_mean_the_same(sdxl, write_lora, noisy_lora, module: str, names: tuple[str, ...]) -> None:
    tensors = noisy_lora(sdxl, module)
    expected = merged(write_lora(tensors), sdxl)
    for name in names:
        for kohya in (True, False):
            got = merged(write_lora(renamed(tensors, module, name, kohya)), sdxl)
            assert got.keys() == expected.keys() == {f"{module}.weight"}
            assert torch.equal(got[f"{module}.weight"], expected[f"{module}.weight"])


def test_the_block_numbers_of_the_real_sdxl() -> None:
    """With two layers a block, as the published unet has: its first attention is input block 4."""
    from tourney_ray.evaluation.image.lora_names import _sdxl_originals

    class Unet:
        class config:
            layers_per_block = 2

    names = {
        "down_blocks.1.attentions.0.proj_in": "input_blocks.4.1.proj_in",
        "down_blocks.1.attentions.1.proj_in": "input_blocks.5.1.proj_in",
        "down_blocks.2.attentions.0.proj_in": "input_blocks.7.1.proj_in",
        "down_blocks.2.attentions.1.proj_in": "input_blocks.8.1.proj_in",
        "mid_block.attentions.0.proj_out": "middle_block.1.proj_out",
        "up_blocks.0.attentions.2.proj_out": "output_blocks.2.1.proj_out",
        "up_blocks.1.attentions.0.proj_out": "output_blocks.3.1.proj_out",
        "time_embedding.linear_1": None,
    }
    found = {ours[0]: theirs for theirs, ours in _sdxl_originals(list(names), Unet)}
    assert found == {ours: theirs for ours, theirs in names.items() if theirs}


@pytest.mark.parametrize(
    ("fused", "modules"),
    [
        ("double_blocks.1.img_attn.qkv", ("attn.to_q", "attn.to_k", "attn.to_v")),
        ("double_blocks.0.txt_attn.qkv", ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")),
        ("double_blocks.0.img_mlp.0", ("ff.net.0.proj",)),
        ("double_blocks.0.txt_mod.lin", ("norm1_context.linear",)),
        ("single_blocks.1.linear1", ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")),
        ("single_blocks.0.linear2", ("proj_out",)),
    ],
)
def test_the_fused_modules_of_flux_are_rows_of_ours(flux, write_lora, noisy_lora, fused: str, modules) -> None:
    tensors = noisy_lora(flux, f"diffusion_model.{fused}")
    kohya = renamed(tensors, f"diffusion_model.{fused}", f"lora_unet_{fused.replace('.', '_')}")
    got, same = merged(write_lora(tensors), flux), merged(write_lora(kohya), flux)
    blocks = "transformer_blocks" if fused.startswith("double") else "single_transformer_blocks"
    places = [f"transformer.{blocks}.{fused.split('.')[1]}.{module}.weight" for module in modules]
    assert list(got) == list(same) == places
    whole = torch.cat([got[place] - flux.places[place] for place in places])
    a, b = tensors.values()
    torch.testing.assert_close(whole, b @ a, rtol=1e-4, atol=1e-6)


def test_what_flux_does_not_let_a_lora_change(flux, write_lora, noisy_lora) -> None:
    """LoRA on the model only: those of text encoders are checked and change nothing."""
    text = "text_encoder.encoder.layers.0.self_attn.q_proj"
    alone = merged(write_lora(noisy_lora(flux, FLUX_Q)), flux)
    both = merged(write_lora(noisy_lora(flux, FLUX_Q, text)), flux)
    assert both.keys() == alone.keys() == {f"{FLUX_Q}.weight"}
    spoilt = noisy_lora(flux, FLUX_Q, text)
    spoilt[f"{text}.lora_A.weight"] = torch.zeros(4, 7)
    with pytest.raises(CheckpointInvalid, match=r"text_encoder.*the base needs"):
        merged(write_lora(spoilt), flux)
    t5 = renamed(noisy_lora(flux, k := "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q"), k, "lora_te3_"
                 "encoder_block_0_layer_0_SelfAttention_q")  # fmt: skip
    assert merged(write_lora(t5), flux) == {}


def test_alpha_over_rank_is_the_scale(sdxl, write_lora, noisy_lora) -> None:
    tensors = noisy_lora(sdxl, Q)
    base = sdxl.places[f"{Q}.weight"]
    plain = merged(write_lora(tensors), sdxl)[f"{Q}.weight"] - base
    for shape in ((), (1,)):
        by_tensor = merged(write_lora(tensors | {f"{Q}.alpha": torch.full(shape, 2.0)}), sdxl)
        torch.testing.assert_close(by_tensor[f"{Q}.weight"] - base, plain / 2, rtol=1e-3, atol=1e-7)
    for written, scale in (
        ({"unet.lora_alpha": 8, "unet.r": 4}, 2.0),
        ({"unet.lora_alpha": 8, "unet.r": 4, "unet.use_rslora": True}, 4.0),
        ({"text_encoder.lora_alpha": 8}, 1.0),
    ):
        found = merged(write_lora(tensors, lora_adapter_metadata=json.dumps(written)), sdxl)
        torch.testing.assert_close(found[f"{Q}.weight"] - base, plain * scale, rtol=1e-3, atol=1e-7)


def spoilt(change: dict[str, Any], drop: tuple[str, ...] = ()) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {name: t for name, t in (tensors | change).items() if name not in drop}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoilt({f"{Q}.dora_scale": torch.ones(64)}), "belongs to DoRA"),
        (spoilt({f"{Q}.lora_magnitude_vector": torch.ones(64)}), "belongs to DoRA"),
        (spoilt({f"{Q}.hada_w1_a": torch.ones(4, 4)}), "belongs to LoHa"),
        (spoilt({f"{Q}.lokr_w1": torch.ones(4, 4)}), "belongs to LoKr"),
        (spoilt({f"{Q}.lora_mid.weight": torch.ones(4, 4)}), "belongs to LoCon"),
        (spoilt({f"{Q}.oft_blocks": torch.ones(4, 4)}), "belongs to OFT"),
        (spoilt({f"{Q}.diff": torch.ones(64, 64)}), "difference of whole weights"),
        (spoilt({f"{Q}.lora_B.bias": torch.ones(64)}), "more than linear modules"),
        (spoilt({f"{Q}.weight": torch.ones(64, 64)}), "no part of a LoRA"),
        (spoilt({"unet.conv_in.lora_A.weight": torch.ones(4, 4)}), "no linear module"),
        (spoilt({"lora_unet_conv_in.lora_down.weight": torch.ones(4, 4, 3, 3)}), "no linear module"),
        (spoilt({"vae.encoder.lora_A.weight": torch.ones(4, 4)}), "no linear module"),
        (spoilt({"lora_te3_encoder.lora_down.weight": torch.ones(4, 4)}), "no linear module"),
        (spoilt({}, (f"{Q}.lora_B.weight",)), "lacks B"),
        (spoilt({}, (f"{Q}.lora_A.weight",)), "lacks A"),
        (spoilt({f"{Q}.lora_A.weight": torch.ones(4, 63)}), "the base needs"),
        (spoilt({f"{Q}.lora_A.weight": torch.ones(5, 64)}), "the base needs"),
        (spoilt({f"{Q}.lora_B.weight": torch.ones(64, 4, 1, 1)}), "the base needs"),
        (spoilt({f"{Q}.lora_A.weight": torch.ones(0, 64), f"{Q}.lora_B.weight": torch.ones(64, 0)}), "has rank 0"),
        (
            spoilt({f"{Q}.lora_A.weight": torch.ones(257, 64), f"{Q}.lora_B.weight": torch.ones(64, 257)}),
            "has rank 257; allowed are 1 to 256",
        ),
        (spoilt({f"{Q}.lora_A.weight": torch.full((4, 64), math.nan)}), "not finite"),
        (spoilt({f"{Q}.lora_B.weight": torch.full((64, 4), math.inf)}), "not finite"),
        (
            spoilt({f"{Q}.lora_A.weight": torch.full((4, 64), 1e30), f"{Q}.lora_B.weight": torch.full((64, 4), 1e30)}),
            "not finite",
        ),
        (spoilt({f"{Q}.alpha": torch.tensor(math.nan)}), "not finite"),
        (spoilt({f"{Q}.alpha": torch.tensor(0.0)}), "above 0"),
        (spoilt({f"{Q}.alpha": torch.tensor(-4.0)}), "above 0"),
        (spoilt({f"{Q}.alpha": torch.tensor(1e9)}), "up to 1000000"),
        (spoilt({f"{Q}.alpha": torch.ones(2)}), "not one number"),
        (spoilt({f"{Q}.lora_down.weight": torch.ones(4, 64)}), "has A twice"),
        (
            spoilt(
                {
                    "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q.lora_down.weight": torch.ones(4, 64),
                    "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q.lora_up.weight": torch.ones(64, 4),
                }
            ),
            "both change",
        ),
        (lambda _: {}, "holds no tensors"),
    ],
)
def test_hostile_tensors_are_refused_by_file_and_rule(sdxl, write_lora, noisy_lora, spoil, words: str) -> None:
    with pytest.raises(CheckpointInvalid) as refused:
        merged(write_lora(spoil(noisy_lora(sdxl, Q))), sdxl)
    assert words in refused.value.message
    assert "last.safetensors" in refused.value.message or "tensor" in refused.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"unet.use_dora": true}', "only plain LoRA"),
        ('{"unet.alpha_pattern": {"to_q": 99}}', "only plain LoRA"),
        ('{"unet.rank_pattern": {"to_q": 9}}', "only plain LoRA"),
        ('{"unet.lora_alpha": "8"}', "not a number"),
        ('{"unet.lora_alpha": true}', "not a number"),
        ('{"unet.lora_alpha": NaN}', "above 0"),
        ('{"unet.lora_alpha": 1e7}', "up to"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_hostile_settings_beside_the_tensors(sdxl, write_lora, noisy_lora, text: str, words: str) -> None:
    with pytest.raises(CheckpointInvalid, match=words):
        merged(write_lora(noisy_lora(sdxl, Q), lora_adapter_metadata=text), sdxl)


def test_a_file_beyond_any_lora_is_not_even_read(sdxl, write_lora) -> None:
    output = write_lora({f"{Q}.lora_A.weight": torch.ones(4, 64)})
    with (output / "checkpoints/last.safetensors").open("r+b") as file:
        file.truncate(2**34)
    with pytest.raises(CheckpointInvalid, match="has fewer than"):
        merged(output, sdxl)


def make(output: Path, *names: str) -> None:
    for name in names:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("checkpoints/last.safetensors", "checkpoints/last-000099.safetensors"), "checkpoints/last.safetensors"),
        (("checkpoint/last-9.safetensors", "checkpoint/last-10.safetensors"), "checkpoint/last-10.safetensors"),
        (("last.safetensors", "metrics.jsonl"), "last.safetensors"),
        (("last.safetensors", "checkpoints/last.safetensors"), "checkpoints/last.safetensors"),
        (("last.safetensors", "checkpoints/last-7.safetensors"), "last.safetensors"),
        (("checkpoint-9/last.safetensors", "checkpoint-10/last.safetensors"), "checkpoint-10/last.safetensors"),
        (("checkpoint-9/last-2.safetensors", "checkpoint-3/last-12.safetensors"), "checkpoint-3/last-12.safetensors"),
        (("checkpoints/last.safetensors", "checkpoints/best.safetensors"), "checkpoints/last.safetensors"),
    ],
)
def test_the_file_that_counts(tmp_path: Path, names: tuple[str, ...], found: str) -> None:
    make(tmp_path / "output", *names)
    assert find_lora(tmp_path / "output") == tmp_path / "output" / found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("checkpoints/optimizer.bin", r"\.bin files are never opened"),
        ("checkpoints/last.pt", r"\.pt files"),
        ("train.py", r"\.py files"),
        ("samples.zip", r"\.zip files"),
        ("samples/one.txt", "folders checkpoint"),
        ("checkpoints/state/last.safetensors", "is a folder"),
        ("checkpoints/notes", "not on the list"),
        ("last .safetensors", "not on the list"),
    ],
)
def test_what_may_not_lie_there(tmp_path: Path, name: str, words: str) -> None:
    make(tmp_path / "output", "checkpoints/last.safetensors", name)
    with pytest.raises(CheckpointInvalid, match=words):
        find_lora(tmp_path / "output")


def test_links_special_files_and_emptiness(tmp_path: Path) -> None:
    output = tmp_path / "output"
    make(output, "checkpoints/last-1.safetensors")
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"x")
    for place, kind in ((output / "checkpoints/last.safetensors", secret), (output / "checkpoint-2", output)):
        place.symlink_to(kind)
        with pytest.raises(CheckpointInvalid, match="symbolic link"):
            find_lora(output)
        place.unlink()
    os.mkfifo(output / "last.safetensors")
    with pytest.raises(CheckpointInvalid, match="special file"):
        find_lora(output)
    (tmp_path / "link").symlink_to(output)
    for nothing in (tmp_path / "link", tmp_path / "missing", secret):
        with pytest.raises(CheckpointInvalid, match="is not a folder"):
            find_lora(nothing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointInvalid, match="neither"):
        find_lora(tmp_path / "empty")
    make(tmp_path / "many", *(f"checkpoints/last-{number}.safetensors" for number in range(300)))
    with pytest.raises(CheckpointInvalid, match="more than 256 files"):
        find_lora(tmp_path / "many")
