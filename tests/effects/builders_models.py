"""Folders that look like models from outside: headers with shapes, and no numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_model(folder: Path, files: Mapping[str, Sequence[list[int]]], positions: int = 512) -> Path:
    """A folder with a config, a tokenizer that counts letters, and files of tensors with these shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": positions}))
    (folder / "tokenizer.json").write_text("{}")
    for name, shapes in files.items():
        header = {f"t{n}": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for n, shape in enumerate(shapes)}
        text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text)
    return folder
