"""Draws that anyone can repeat and nobody can steer (RULES §3)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, strategies as st

from tourney_ray.core.draw import commitment, draw_groups, draw_pairs, drawn_order, final_seed, position

SEED = hashlib.sha256(b"a seed").hexdigest()

seeds = st.binary(min_size=32, max_size=32).map(bytes.hex)
entrants = st.lists(st.text("abcdef0123", min_size=1, max_size=6), unique=True, min_size=0, max_size=24)


def test_commitment_is_the_sha256_of_the_seeds_bytes():
    assert commitment("11" * 32) == hashlib.sha256(b"\x11" * 32).hexdigest()


def test_a_seed_has_32_bytes():
    with pytest.raises(ValueError, match="a seed has 32 bytes, not 31"):
        commitment("11" * 31)


def test_the_final_seed_recomputed_by_hand():
    lines = hashlib.sha256(b"alice:c1\nbob:c2\ncarol:c0").digest()
    entries = [("bob", "c2"), ("alice", "c1"), ("carol", "c0")]
    assert final_seed("11" * 32, entries) == hashlib.sha256(b"\x11" * 32 + lines).hexdigest()
    with_beacon = hashlib.sha256(b"\x11" * 32 + lines + "bäcon".encode()).hexdigest()
    assert final_seed("11" * 32, entries, "bäcon") == with_beacon


def test_the_position_recomputed_by_hand():
    digest = hashlib.sha256(f"{SEED}|3|pair|alice".encode()).digest()
    by_hand = sum(byte * 256 ** (7 - i) for i, byte in enumerate(digest[:8])) / 2.0**64
    assert position(SEED, 3, "pair", "alice") == by_hand
    others = [(SEED, 4, "pair", "alice"), (SEED, 3, "group", "alice"), (SEED, 3, "pair", "bob")]
    assert all(position(*other) != by_hand for other in others)


@given(seeds, st.integers(1, 9), entrants)
def test_pairs_are_neighbours_by_ascending_position(seed: str, number: int, placed: list[str]):
    placed = placed[len(placed) % 2 :]
    pairs = draw_pairs(seed, number, placed)
    flat = [hotkey for pair in pairs for hotkey in pair]
    assert flat == sorted(flat, key=lambda h: hashlib.sha256(f"{seed}|{number}|pair|{h}".encode()).digest()[:8])
    assert sorted(flat) == sorted(placed)
    assert all(len(pair) == 2 for pair in pairs)


def test_an_odd_number_has_no_pairs():
    with pytest.raises(ValueError, match="zip"):
        draw_pairs(SEED, 1, ["a", "b", "c"])


@given(seeds, entrants, st.data())
def test_the_order_of_the_entrants_does_not_steer_a_draw(seed: str, items: list[str], data: st.DataObject):
    shuffled = data.draw(st.permutations(items))
    assert drawn_order(seed, 2, "pair", shuffled) == drawn_order(seed, 2, "pair", items)
    assert draw_groups(seed, 2, shuffled, 3) == draw_groups(seed, 2, items, 3)
    if len(items) % 2 == 0:
        assert draw_pairs(seed, 2, shuffled) == draw_pairs(seed, 2, items)


@given(seeds, st.lists(st.tuples(st.text("ab", min_size=1), st.text("01")), unique=True), st.data())
def test_the_order_of_the_entries_does_not_change_the_final_seed(
    seed: str, entries: list[tuple[str, str]], data: st.DataObject
):
    assert final_seed(seed, data.draw(st.permutations(entries))) == final_seed(seed, entries)


@given(seeds, entrants, st.integers(1, 5))
def test_groups_are_dealt_in_turn(seed: str, items: list[str], count: int):
    groups = draw_groups(seed, 1, items, count)
    order = drawn_order(seed, 1, "group", items)
    assert len(groups) == count
    assert sorted(h for group in groups for h in group) == sorted(items)
    assert all(group == tuple(order[i::count]) for i, group in enumerate(groups))
    sizes = [len(group) for group in groups]
    assert max(sizes) - min(sizes) <= 1


def test_different_seeds_rounds_and_commits_draw_differently():
    items = [f"m{i:02d}" for i in range(16)]
    one = draw_pairs(SEED, 1, items)
    assert draw_pairs(commitment(SEED), 1, items) != one
    assert draw_pairs(SEED, 2, items) != one
    entries = [(h, "0" * 40) for h in items]
    changed = [*entries[:-1], (items[-1], "1" * 40)]
    assert final_seed(SEED, changed) != final_seed(SEED, entries)
