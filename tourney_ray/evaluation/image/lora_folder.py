"""Which file of an image trainer's output is the LoRA: found by name and kind, before anything is opened.

`last.safetensors`, else the `last-N.safetensors` of the highest N, in a folder `checkpoint*` of the output or at its
top. Guarantee: the answer is a regular file, no link on the way to it, in a folder that holds nothing forbidden.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.folder import IGNORED_FILES, MAX_FILES, REFUSED_SUFFIXES
from tourney_ray.evaluation.safetensors_file import shown

LORA = re.compile(r"last(-(\d{1,12}))?\.safetensors")
FOLDER = re.compile(r"checkpoint[\w.-]*")
OTHER_LORA = re.compile(r"[\w.-]+\.safetensors")
"""Other stages of the training; never opened."""

IGNORED = IGNORED_FILES | {"config.json", "config.toml", "dataset.toml", "config.yaml", "sample_prompts.txt"}
"""Allowed because trainers write them, and never opened."""


def find_lora(output: Path) -> Path:
    """The file that counts; raises `CheckpointInvalid` naming what may not be there, or what is missing.

    Of several folders with the same name of a file, the one of the highest number counts, and any of them before the
    top.
    """
    if not os.path.lexists(output) or not stat.S_ISDIR(os.lstat(output).st_mode):
        raise CheckpointInvalid("the checkpoint is not a folder, or is a link to one")
    found: list[tuple[tuple[object, ...], Path]] = []
    for folder, entry in _entries(output):
        _check_file(folder, entry)
        if match := LORA.fullmatch(entry.name):
            numbers = tuple(map(int, re.findall(r"\d{1,12}", folder)))
            order = (match[2] is None, int(match[2] or 0), folder != "", numbers, folder)
            found.append((order, output / folder / entry.name))
    if not found:
        raise CheckpointInvalid("the checkpoint holds neither last.safetensors nor last-N.safetensors in checkpoint*")
    return max(found)[1]


def _entries(output: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files at the top and in the folders `checkpoint*`, each with its folder's name."""
    count = 0
    pending = [("", output)]
    while pending:
        folder, path = pending.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                count += 1
                if count > MAX_FILES:
                    raise CheckpointInvalid(f"the checkpoint has more than {MAX_FILES} files and folders")
                if not folder and entry.is_dir(follow_symlinks=False):
                    _check_folder(entry.name)
                    pending.append((entry.name, output / entry.name))
                else:
                    yield folder, entry


def _check_folder(name: str) -> None:
    if not FOLDER.fullmatch(name):
        raise CheckpointInvalid(f"{shown(name)} is a folder; an image checkpoint has folders checkpoint* only")


def _check_file(folder: str, entry: os.DirEntry[str]) -> None:
    name = f"{folder}/{entry.name}" if folder else entry.name
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise CheckpointInvalid(f"{shown(name)} is a symbolic link; a checkpoint holds regular files only")
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "special file"
        raise CheckpointInvalid(f"{shown(name)} is a {kind}; a checkpoint holds regular files only")
    if (suffix := Path(entry.name).suffix.lower()) in REFUSED_SUFFIXES:
        raise CheckpointInvalid(
            f"{shown(name)} is refused: weights come as .safetensors, and {suffix} files are never opened"
        )
    if entry.name not in IGNORED and not OTHER_LORA.fullmatch(entry.name):
        raise CheckpointInvalid(f"{shown(name)} is not on the list of files that an image checkpoint may hold")
