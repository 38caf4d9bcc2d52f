"""The safetensors format, read by hand: what tensors a stranger's file holds and where, before any library opens it.

Guarantee: whatever the bytes, the answer is a checked table of tensors or `CheckpointInvalid`. Needs no torch, reads
nothing but the header.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from tourney_ray.errors import CheckpointInvalid

DTYPE_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
"""Numbers that weights may be stored in, with bytes per element."""

MAX_HEADER_BYTES = 8 * 2**20
"""A header takes about 130 bytes per tensor: room for 60,000 tensors in one file."""

MAX_DIMENSIONS = 8
MAX_DIMENSION = 2**40
MAX_JSON_DEPTH = 32
LENGTH_BYTES = 8
"""The header's length: 64 bits, little endian, at the start of the file."""

_OWNERS_DOING = frozenset({errno.ELOOP, errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: `size` bytes from `start` of the file at `path`, row by row, little endian."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Tensors of the file at `path` by name; raises `CheckpointInvalid` for anything but a sound safetensors file."""
    header, file_bytes = _header(path)
    return parse_header(header, file_bytes, path)


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself beside its tensors; raises `CheckpointInvalid` as `read_header` does."""
    metadata: Any = parse_object(_header(path)[0], path).get("__metadata__", {})
    _check_metadata(metadata, path)
    return metadata


def parse_header(header: bytes, file_bytes: int, path: Path) -> dict[str, StoredTensor]:
    """Tensors that `header` describes; raises `CheckpointInvalid` unless they fill a file of `file_bytes` exactly."""
    document = parse_object(header, path)
    _check_metadata(document.pop("__metadata__", {}), path)
    data_start = LENGTH_BYTES + len(header)
    tensors = {name: _tensor(name, entry, data_start, path) for name, entry in document.items()}
    _check_layout(tensors.values(), data_start, file_bytes, path)
    return tensors


def parse_object(text: bytes, path: Path) -> dict[str, Any]:
    """A JSON object without repeated keys, NaN or infinity; raises `CheckpointInvalid` naming the file at `path`."""
    try:
        document = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"it is not sound JSON ({shown(str(error))})")
    if not isinstance(document, dict):
        _refuse(path, "it is not a JSON object")
    if not _shallow(document):
        _refuse(path, f"it is nested deeper than {MAX_JSON_DEPTH} levels")
    return document


def open_regular(path: Path) -> BufferedReader:
    """The file at `path`, opened for reading; raises `CheckpointInvalid` for a link or a file that its owner locked."""
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as error:
        if error.errno not in _OWNERS_DOING:
            raise
        raise CheckpointInvalid(f"{shown(path.name)} cannot be read: {error.strerror}") from error


def shown(value: object, limit: int = 80) -> str:
    """A stranger's value as one line of plain ASCII, cut at `limit` characters."""
    text = ascii(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _header(path: Path) -> tuple[bytes, int]:
    """The header of the file at `path`, and how many bytes the file has."""
    with open_regular(path) as file:
        file_bytes = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if file_bytes < LENGTH_BYTES or length > file_bytes - LENGTH_BYTES:
            _refuse(path, f"its header length {length} does not fit into the file of {file_bytes} bytes")
        if length > MAX_HEADER_BYTES:
            _refuse(path, f"its header of {length} bytes is longer than {MAX_HEADER_BYTES}")
        header = file.read(length)
    return header, file_bytes


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _shallow(document: dict[str, Any]) -> bool:
    level: list[Any] = [document]
    for _ in range(MAX_JSON_DEPTH):
        insides = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [child for inside in insides for child in inside]
    return not level


def _check_metadata(metadata: object, path: Path) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its __metadata__ is not an object of texts")


def _tensor(name: str, entry: Any, data_start: int, path: Path) -> StoredTensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"tensor {shown(name)} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        _refuse(path, f"tensor {shown(name)} has dtype {shown(dtype)}; allowed are {', '.join(DTYPE_BYTES)}")
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        _refuse(path, f"tensor {shown(name)} has the impossible shape {shown(shape)}")
    if not _whole_numbers(offsets) or len(offsets) != 2:  # noqa: PLR2004 - begin and end
        _refuse(path, f"tensor {shown(name)} has the impossible data_offsets {shown(offsets)}")
    begin, end = offsets
    if end - begin != math.prod(shape) * DTYPE_BYTES[dtype]:
        _refuse(path, f"tensor {shown(name)} occupies {end - begin} bytes, which its shape and dtype do not need")
    return StoredTensor(path, dtype, tuple(shape), data_start + begin, end - begin)


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_DIMENSION for item in value)


def _check_layout(tensors: Iterable[StoredTensor], data_start: int, file_bytes: int, path: Path) -> None:
    end = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.size)):
        if tensor.start != end:
            _refuse(path, f"its tensors leave a hole or overlap at byte {min(tensor.start, end)}")
        end += tensor.size
    if end != file_bytes:
        _refuse(path, f"it has {file_bytes} bytes where its header accounts for {end}")


def _refuse(path: Path, why: str) -> NoReturn:
    raise CheckpointInvalid(f"{shown(path.name)} is refused: {why}")
