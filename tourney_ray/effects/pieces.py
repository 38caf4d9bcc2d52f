"""Content on its way: blocks of bytes, and the lengths of holes, which stay holes where they can."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from tourney_ray.errors import StorageUnavailable

BLOCK_BYTES = 4 << 20
ZEROS = memoryview(bytes(BLOCK_BYTES))

Piece = bytes | memoryview | int
"""Content, or the number of zero bytes in a hole."""
Read = Callable[[], Iterable[Piece]]
"""Begins to read some content; may be called twice."""


class Hashing(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take content into account."""
        ...


def pieces(file: int) -> Iterator[Piece]:
    """The content of an open file from its beginning, in blocks and lengths of holes."""
    size, at = os.fstat(file).st_size, 0
    while at < size:
        begin = _data_from(file, at, size)
        if begin > at:
            yield begin - at
        end = os.lseek(file, begin, os.SEEK_HOLE) if begin < size else size
        for offset in range(begin, min(end, size), BLOCK_BYTES):
            yield from _read_exactly(file, offset, min(BLOCK_BYTES, end - offset, size - offset))
        at = min(end, size)


def _data_from(file: int, at: int, size: int) -> int:
    try:
        return min(os.lseek(file, at, os.SEEK_DATA), size)
    except OSError as nothing:
        if nothing.errno == errno.ENXIO:  # a hole to the end
            return size
        raise


def _read_exactly(file: int, offset: int, count: int) -> Iterator[bytes]:
    left = count
    while left:
        block = os.pread(file, left, offset + count - left)
        if not block:
            raise StorageUnavailable("a file became shorter while it was read")
        yield block
        left -= len(block)


def hash_piece(hashing: Hashing, piece: Piece) -> int:
    """Take a piece into account; its bytes."""
    size = 0
    for block in blocks(piece):
        hashing.update(block)
        size += len(block)
    return size


def blocks(piece: Piece) -> Iterator[bytes | memoryview]:
    """A piece as content, a hole as zeros."""
    if not isinstance(piece, int):
        yield piece
        return
    for left in range(piece, 0, -BLOCK_BYTES):
        yield ZEROS[:left]
