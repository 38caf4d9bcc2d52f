"""Low-rank adapters, and the file that they are saved in, in either of two ways of naming them."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn


class Adapted(nn.Module):
    """A frozen linear layer with a trainable product of two thin matrices beside it; its scale is 1."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.layer = layer
        self.lora_A = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, hidden):
        return self.layer(hidden) + (hidden @ self.lora_A.T) @ self.lora_B.T


def attach(model: nn.Module, rank: int, targets: tuple[str, ...]) -> dict[str, Adapted]:
    """Put adapters beside the linear layers of `model` whose names end so; the adapters by name."""
    chosen = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and name.endswith(targets)]
    adapted = {}
    for name in chosen:
        parent = model.get_submodule(name.rpartition(".")[0])
        adapted[name] = Adapted(model.get_submodule(name), rank)
        setattr(parent, name.rpartition(".")[2], adapted[name])
    return adapted


def save(adapted: dict[str, Adapted], family, names: str, path: Path) -> None:
    """Write the adapters to `path`, whole or not at all."""
    component = "unet" if hasattr(family, "signal") else "transformer"
    tensors = {}
    for name, module in adapted.items():
        a, b = module.lora_A.detach().contiguous(), module.lora_B.detach().contiguous()
        if names == "kohya":
            prefix = f"lora_unet_{name.replace('.', '_')}"
            tensors |= {f"{prefix}.lora_down.weight": a, f"{prefix}.lora_up.weight": b}
            tensors[f"{prefix}.alpha"] = torch.tensor(float(len(a)))
        else:
            tensors |= {f"{component}.{name}.lora_A.weight": a, f"{component}.{name}.lora_B.weight": b}
    staged = path.with_suffix(".part")
    save_file(tensors, staged, metadata={"format": "pt"})
    staged.rename(path)
