"""Low-rank adapters and the two kinds of checkpoint: whole models, and adapters in the naming that peft reads."""

import copy
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn


class Adapted(nn.Module):
    """A frozen linear layer with a trainable product of two thin matrices beside it."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.on = True

    def forward(self, hidden):
        if not self.on:
            return self.layer(hidden)
        return self.layer(hidden) + SCALE * (hidden @ self.lora_A.T) @ self.lora_B.T


SCALE = 2.0
"""lora_alpha over rank."""


class Untuned:
    """A model with adapters, as it was before it had any."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.adapters = [module for module in model.modules() if isinstance(module, Adapted)]

    def __call__(self, *inputs):
        self.switch(False)
        try:
            return self.model(*inputs)
        finally:
            self.switch(True)

    def switch(self, on: bool) -> None:
        for adapter in self.adapters:
            adapter.on = on


def attach(model: nn.Module, rank: int, targets: tuple[str, ...]):
    """Freeze `model` and put adapters of `rank` beside its layers of the names `targets`; none at rank 0.

    Returns the model as it was, to compare with.
    """
    if not rank:
        return copy.deepcopy(model).requires_grad_(False)
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if name in targets and isinstance(child, nn.Linear):
                setattr(parent, name, Adapted(child, rank))
    return Untuned(model)


def save(model: nn.Module, base: Path, model_id: str, target: Path) -> None:
    """Write the checkpoint of `model`: its adapters where it has some, else all of its weights."""
    adapters = {name: module for name, module in model.named_modules() if isinstance(module, Adapted)}
    if not adapters:
        shutil.copyfile(base / "config.json", target / "config.json")
        tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        return
    tensors = {}
    for name, module in adapters.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = module.lora_A.detach().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = module.lora_B.detach().contiguous()
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    rank = next(iter(adapters.values())).lora_A.shape[0]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model_id,
        "r": rank,
        "lora_alpha": int(SCALE * rank),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
        "target_modules": sorted({name.rsplit(".", 1)[1] for name in adapters}),
    }
    (target / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
