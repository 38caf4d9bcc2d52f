"""How checkpoints are spoilt: small functions for the tables of `test_hostile_*.py`.

Each is a copy of the tiny trained model, of its base, or of the trained adapter, that one function has spoilt.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
CONFIG = "config.json"
LORA = "adapter_config.json"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
TO_Q = "base_model.model.model.layers.0.self_attn.q_proj"
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}

Tensors = dict[str, torch.Tensor]
NOT_TUNED = "the weights are the base model's"
"""In the place of words: the checkpoint is read and measured, and marked as not fine-tuned."""


@dataclass(frozen=True, slots=True)
class Hostile:
    """One hostile checkpoint."""

    spoil: Callable[[Path], object]
    words: str
    """In its refusal, which names a file, a tensor or a field, and the rule."""
    start: str = "instruct_full"
    """The honest folder that it is made of."""


class Canary:
    """Unpickled, it touches the file of which it was made."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.call, (["touch", str(self._file)],)


def canary_of(folder: Path) -> Path:
    """The file that is there once code of the checkpoint has run; `/tmp` is the only place where it could be made."""
    return Path("/tmp") / f"canary-{folder.name}"


# --- tools


def read_tensors(path: Path) -> Tensors:
    header, data = split(path)
    return {name: _tensor(entry, data) for name, entry in header.items() if name != "__metadata__"}


def _tensor(entry: Mapping[str, Any], data: bytes) -> torch.Tensor:
    begin, end = entry["data_offsets"]
    kinds = {name: dtype for dtype, name in NAMES.items()}
    return torch.frombuffer(bytearray(data[begin:end]), dtype=kinds[entry["dtype"]]).reshape(entry["shape"])


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(path: Path, header: Any, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file; holes, wrong shapes and numbers that are not finite are welcome."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = bytearray()
    for name, tensor in tensors.items():
        values = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(values)],
        }
        data += values
    join(path, header, bytes(data))


def json_file(name: str, **fields: Any) -> Callable[[Path], object]:
    """Sets fields of a JSON file; a field of `...` is removed."""

    def spoil(at: Path) -> None:
        document = json.loads((at / name).read_text()) | fields
        (at / name).write_text(json.dumps({key: value for key, value in document.items() if value is not ...}))

    return spoil


def config(**fields: Any) -> Callable[[Path], object]:
    return json_file(CONFIG, **fields)


def lora(**fields: Any) -> Callable[[Path], object]:
    return json_file(LORA, **fields)


def tensors(change: Callable[[Tensors], object], file: str = WEIGHTS) -> Callable[[Path], object]:
    def spoil(at: Path) -> None:
        found = read_tensors(at / file)
        change(found)
        write_tensors(at / file, found)

    return spoil


def header(change: Callable[[dict[str, Any]], object], more: bytes = b"") -> Callable[[Path], object]:
    def spoil(at: Path) -> None:
        found, data = split(at / WEIGHTS)
        change(found)
        join(at / WEIGHTS, found, data + more)

    return spoil


def sized(name: str, size: int) -> Callable[[Path], object]:
    """A sparse file: it claims many bytes and has none."""

    def spoil(at: Path) -> None:
        (at / name).touch()
        os.truncate(at / name, size)

    return spoil


def content(name: str, text: bytes) -> Callable[[Path], object]:
    return lambda at: (at / name).write_bytes(text)


def pickled(name: str) -> Callable[[Path], object]:
    return lambda at: (at / name).write_bytes(pickle.dumps(Canary(canary_of(at))))


def torch_zip(at: Path) -> None:
    with zipfile.ZipFile(at / WEIGHTS, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary(canary_of(at))))


def zip_beside_tensors(at: Path) -> None:
    """A safetensors file that is a zip, too, for whoever looks at its end."""
    with zipfile.ZipFile(at / "end", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary(canary_of(at))))
    end = (at / "end").read_bytes()
    (at / "end").unlink()
    (at / WEIGHTS).write_bytes((at / WEIGHTS).read_bytes() + end)


def length(claimed: int) -> Callable[[Path], object]:
    """The header's length is a lie."""

    def spoil(at: Path) -> None:
        body = (at / WEIGHTS).read_bytes()[8:]
        (at / WEIGHTS).write_bytes(struct.pack("<Q", claimed) + body)

    return spoil


def deep(at: Path) -> None:
    join(at / WEIGHTS, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"")


def shards(at: Path) -> dict[str, str]:
    """The model in two shards; the index's `weight_map`."""
    found = read_tensors(at / WEIGHTS)
    (at / WEIGHTS).unlink()
    weight_map: dict[str, str] = {}
    for number, names in enumerate((list(found)[:20], list(found)[20:]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        write_tensors(at / file, {name: found[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    return weight_map


def sharded(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(at: Path) -> None:
        weight_map: dict[str, Any] = shards(at)
        change(weight_map)
        (at / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return spoil


def scaled(factor: float) -> Callable[[Path], object]:
    def change(found: Tensors) -> None:
        for name, tensor in found.items():
            found[name] = tensor * factor if name.endswith("lora_B.weight") else tensor

    return tensors(change, ADAPTER)


def in_dtype(dtype: torch.dtype) -> Callable[[Path], object]:
    return tensors(lambda it: it.update({name: tensor.to(dtype) for name, tensor in it.items()}))


def noise(relative: float) -> Callable[[Path], object]:
    """Each weight moves by so little that bf16 does not see it."""

    def change(found: Tensors) -> None:
        for name, tensor in found.items():
            found[name] = tensor.bfloat16().float() * (1 + relative)

    return tensors(change)


def ranked(rank: int) -> Callable[[Path], object]:
    """The adapter's tensors with another rank."""

    def change(found: Tensors) -> None:
        for name, tensor in found.items():
            rows, columns = tensor.shape
            found[name] = torch.zeros((rank, columns) if "lora_A" in name else (rows, rank))

    def spoil(at: Path) -> None:
        lora(r=rank)(at)
        tensors(change, ADAPTER)(at)

    return spoil


def many_ranked(at: Path) -> None:
    """A rank bomb that the header alone makes: it says many rows and has none."""
    lora(r=2**30)(at)
