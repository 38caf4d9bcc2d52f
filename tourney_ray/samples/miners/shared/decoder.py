"""Decoders of the Qwen2 and Llama families in plain torch: the same tensors, under the same names, as the task's model.

Importing a model library takes longer than a whole training of a small model does, so this repository brings its own.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

FAMILIES = ("qwen2", "llama")


class UnsupportedModel(Exception):
    """The task's model is of another family than this trainer can read."""


class Norm(nn.Module):
    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, hidden):
        return self.weight * (hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.epsilon))


class Attention(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        width, heads, groups = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
        self.heads, self.groups = heads, groups
        self.size = config.get("head_dim") or width // heads
        bias = config["model_type"] == "qwen2"
        self.q_proj = nn.Linear(width, heads * self.size, bias=bias)
        self.k_proj = nn.Linear(width, groups * self.size, bias=bias)
        self.v_proj = nn.Linear(width, groups * self.size, bias=bias)
        self.o_proj = nn.Linear(heads * self.size, width, bias=False)

    def forward(self, hidden, cosine, sine, mask=None, past=None):
        """Causal attention; with `past`, a list of keys and values that grows here, over what went before as well."""
        rows, length, _ = hidden.shape
        query = self.q_proj(hidden).view(rows, length, self.heads, self.size).transpose(1, 2)
        key = self.k_proj(hidden).view(rows, length, self.groups, self.size).transpose(1, 2)
        value = self.v_proj(hidden).view(rows, length, self.groups, self.size).transpose(1, 2)
        key = rotate(key, cosine, sine)
        if past is not None:
            if past:
                key, value = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
            past[:] = key, value
        key = key.repeat_interleave(self.heads // self.groups, dim=1)
        value = value.repeat_interleave(self.heads // self.groups, dim=1)
        query = rotate(query, cosine, sine)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        return self.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1))


class Perceptron(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, hidden):
        return self.down_proj(functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class Layer(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Perceptron(config)
        self.input_layernorm = Norm(config["hidden_size"], config["rms_norm_eps"])
        self.post_attention_layernorm = Norm(config["hidden_size"], config["rms_norm_eps"])

    def forward(self, hidden, cosine, sine, mask=None, past=None):
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), cosine, sine, mask, past)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Body(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = Norm(config["hidden_size"], config["rms_norm_eps"])


class Decoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.model = Body(config)
        self.tied = config["tie_word_embeddings"]
        if not self.tied:
            self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        theta = config["rope_parameters"]["rope_theta"]
        self.frequencies = 1.0 / theta ** (torch.arange(0, size, 2).float() / size)

    def forward(self, tokens, wanted):
        """Logits, shape (wanted, vocabulary), at the positions where the mask `wanted` (rows, length) is true.

        Rows are padded on the right, so the causal mask alone keeps the padding out of every wanted position.
        """
        cosine, sine = self._turns(torch.arange(tokens.shape[1]).float())
        hidden = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            hidden = layer(hidden, cosine, sine)
        return self._logits(hidden[wanted])

    def extend(self, tokens, positions, mask, past):
        """Logits, shape (rows, vocabulary), of what follows `tokens`, which join what `past` remembers of each layer.

        `positions` has the shape of `tokens`; `mask`, (rows, 1, tokens, all so far), is true where one sees another.
        """
        cosine, sine = (turn[:, None] for turn in self._turns(positions.float()))
        hidden = self.model.embed_tokens(tokens)
        for layer, remembered in zip(self.model.layers, past, strict=True):
            hidden = layer(hidden, cosine, sine, mask, remembered)
        return self._logits(hidden[:, -1])

    def _turns(self, positions):
        angles = positions[..., None] * self.frequencies
        angles = torch.cat((angles, angles), -1)
        return angles.cos(), angles.sin()

    def _logits(self, hidden):
        head = self.model.embed_tokens.weight if self.tied else self.lm_head.weight
        return functional.linear(self.model.norm(hidden), head)


def rotate(heads, cosine, sine):
    left, right = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat((-right, left), dim=-1) * sine


def load(folder: Path) -> tuple[Decoder, dict]:
    """The model of a folder with `config.json` and `model.safetensors`, and its configuration."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.get("rope_parameters") or {}
    plain = rope.get("rope_type") == "default" and not config.get("use_sliding_window")
    if config.get("model_type") not in FAMILIES or not plain or config.get("attention_bias") or config.get("mlp_bias"):
        raise UnsupportedModel(f"this trainer reads plain qwen2 and llama models, not {config.get('model_type')}")
    model = Decoder(config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model, config
