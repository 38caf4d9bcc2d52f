"""The outside of a stranger's folder: which files lie in it, judged by name, kind and size before any is opened.

Guarantee: what `list_files` returns are regular files with names of the allow-list, none a link, within the limits.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.safetensors_file import open_regular, parse_object, shown

MAX_FILES = 256
"""The biggest models are saved in fewer than 200 shards."""

MAX_JSON_BYTES = 16 * 2**20
"""Of a configuration or an index."""

REFUSED_SUFFIXES = frozenset({
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".pyc", ".so", ".h5", ".msgpack", ".npy",
    ".npz", ".onnx", ".gguf", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".whl",
    ".jar", ".sh", ".bash", ".js", ".exe", ".bat", ".ps1", ".dll", ".dylib",
})  # fmt: skip
"""Formats that can run code when opened, hide files, or hold weights that nobody checks."""

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"

IGNORED_FILES = frozenset({
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
    "chat_template.jinja", "chat_template.json", "preprocessor_config.json", "trainer_state.json",
    "training_args.json", "all_results.json", "train_results.json", "eval_results.json", "README.md",
    "LICENSE", ".gitattributes", "metrics.jsonl",
})  # fmt: skip
"""Allowed because training tools write them, and never opened: the base model's own are used."""


def list_files(folder: Path, max_bytes: int) -> dict[str, int]:
    """Bytes of each file in `folder` by name; raises `CheckpointInvalid` for the first thing that may not be there."""
    if not os.path.lexists(folder) or not stat.S_ISDIR(os.lstat(folder).st_mode):
        raise CheckpointInvalid("the checkpoint is not a folder, or is a link to one")
    sizes: dict[str, int] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            sizes[entry.name] = _checked_size(entry)
            if len(sizes) > MAX_FILES:
                raise CheckpointInvalid(f"the checkpoint has more than {MAX_FILES} files")
    if not sizes:
        raise CheckpointInvalid("the checkpoint folder is empty")
    if sum(sizes.values()) > max_bytes:
        raise CheckpointInvalid(f"the checkpoint has {sum(sizes.values())} bytes; allowed are {max_bytes}")
    return sizes


def refuse_hard_links(folder: Path) -> None:
    """Raise `CheckpointInvalid` for a file that has another name, wherever: it may be anybody's.

    What the store of artifacts shares with its folders has several, and was looked at when it was kept.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                raise CheckpointInvalid(f"{shown(entry.name)} has {found.st_nlink} names on the disk; submit a copy")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file at `path`; raises `CheckpointInvalid` when it is too long or not one."""
    with open_regular(path) as file:
        text = file.read(MAX_JSON_BYTES + 1)
    if len(text) > MAX_JSON_BYTES:
        raise CheckpointInvalid(f"{shown(path.name)} is refused: it is longer than {MAX_JSON_BYTES} bytes")
    return parse_object(text, path)


def _checked_size(entry: os.DirEntry[str]) -> int:
    name, found = entry.name, entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        raise CheckpointInvalid(f"{shown(name)} is a symbolic link; a checkpoint holds regular files only")
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "special file"
        raise CheckpointInvalid(f"{shown(name)} is a {kind}; a checkpoint holds regular files only")
    if (suffix := Path(name).suffix.lower()) in REFUSED_SUFFIXES:
        raise CheckpointInvalid(
            f"{shown(name)} is refused: weights come as .safetensors, and {suffix} files are never opened"
        )
    if name not in IGNORED_FILES | {ADAPTER_WEIGHTS, ADAPTER_CONFIG, INDEX, CONFIG} and not WEIGHTS.fullmatch(name):
        raise CheckpointInvalid(f"{shown(name)} is not on the list of files that a checkpoint may hold")
    return found.st_size
