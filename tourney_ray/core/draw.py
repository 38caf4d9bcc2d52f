"""Draws that anyone can repeat and nobody can steer (RULES §3).

Two 32-byte seeds are committed to by their SHA-256 before any miner is asked. The draw seed is revealed at activation
and mixed with what the entrants froze, so that neither side alone chooses an order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

SEED_BYTES = 32


def commitment(seed: str) -> str:
    """SHA-256, in hex, of the 32 bytes that `seed` spells in hex; raises `ValueError` unless it spells 32 bytes."""
    raw = bytes.fromhex(seed)
    if len(raw) != SEED_BYTES:
        raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(raw)}")
    return hashlib.sha256(raw).hexdigest()


def final_seed(draw_seed: str, entries: Iterable[tuple[str, str]], beacon: str = "") -> str:
    """S, in hex: SHA-256(seed ‖ SHA-256 of the sorted `hotkey:commit` lines ‖ the beacon's value in UTF-8).

    `entries` are (hotkey, commit) of all entrants; a newline stands between two lines, none after the last.
    """
    lines = "\n".join(sorted(f"{hotkey}:{commit}" for hotkey, commit in entries))
    frozen = hashlib.sha256(lines.encode()).digest()
    return hashlib.sha256(bytes.fromhex(draw_seed) + frozen + beacon.encode()).hexdigest()


def position(seed: str, round_number: int, purpose: str, item: str) -> float:
    """U in [0, 1]: the first 8 bytes, big-endian, of SHA-256(`{seed}|{round}|{purpose}|{item}`) over 2⁶⁴."""
    digest = hashlib.sha256(f"{seed}|{round_number}|{purpose}|{item}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def drawn_order(seed: str, round_number: int, purpose: str, items: Iterable[str]) -> list[str]:
    """`items` by ascending position; equal positions, if ever, by name."""
    return sorted(items, key=lambda item: (position(seed, round_number, purpose, item), item))


def draw_pairs(seed: str, round_number: int, players: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Neighbours in the drawn order, as pairs; raises `ValueError` for an odd number of players."""
    order = drawn_order(seed, round_number, "pair", players)
    return tuple(zip(order[::2], order[1::2], strict=True))


def draw_groups(seed: str, round_number: int, entrants: Sequence[str], groups: int) -> tuple[tuple[str, ...], ...]:
    """The entrants dealt in turn, in drawn order, to so many groups."""
    order = drawn_order(seed, round_number, "group", entrants)
    return tuple(tuple(order[i::groups]) for i in range(groups))
