"""The seeds of a tournament: kept from everyone, found again by their commitment, repeatable only when asked to be."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tourney_ray.core.draw import commitment
from tourney_ray.driver.seeds import SeedVault
from tourney_ray.errors import StorageUnavailable


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_may_read_them_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        SeedVault(tmp_path / "state" / "seeds").create(1)
    finally:
        os.umask(before)
    (kept,) = (tmp_path / "state" / "seeds").iterdir()
    assert mode(kept.parent) == 0o700
    assert mode(kept) == 0o600


def test_the_commitment_finds_them_again_in_another_life(tmp_path: Path) -> None:
    seeds = SeedVault(tmp_path).create(1)
    assert (tmp_path / f"{commitment(seeds.draw)}.json").is_file()
    assert SeedVault(tmp_path).read(commitment(seeds.draw)) == seeds
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"], "nothing half-written is left"


def test_every_tournament_has_seeds_of_its_own_of_32_bytes(tmp_path: Path) -> None:
    vault = SeedVault(tmp_path)
    drawn = [vault.create(number) for number in (1, 1, 2)]
    everything = [seed for seeds in drawn for seed in (seeds.draw, seeds.secret)]
    assert len(set(everything)) == 6
    assert {len(bytes.fromhex(seed)) for seed in everything} == {32}
    assert [vault.read(commitment(seeds.draw)) for seeds in drawn] == drawn


def test_a_public_seed_repeats_them(tmp_path: Path) -> None:
    one, same, other = (SeedVault(tmp_path / name, seed) for name, seed in (("a", 7), ("b", 7), ("c", 8)))
    first = one.create(1)
    assert same.create(1) == first
    assert one.create(1) == first
    assert len({first.draw, first.secret, one.create(2).draw, other.create(1).draw}) == 4
    assert len(bytes.fromhex(first.secret)) == 32


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"draw": "00"}', '{"draw": "0", "secret": "1", "x": 2}', "é"]
)
def test_what_cannot_be_read_is_the_platforms_fault_and_names_the_file(tmp_path: Path, content: str) -> None:
    vault = SeedVault(tmp_path)
    draw = commitment(vault.create(1).draw)
    (tmp_path / f"{draw}.json").write_text(content, encoding="latin-1")
    with pytest.raises(StorageUnavailable, match=draw) as caught:
        vault.read(draw)
    assert caught.value.hint == "restore the file"
    assert "\n" not in caught.value.message


def test_seeds_that_are_gone_are_the_platforms_fault(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="cannot be read"):
        SeedVault(tmp_path).read("0" * 64)


def test_a_half_written_file_is_replaced_by_a_whole_one(tmp_path: Path) -> None:
    vault = SeedVault(tmp_path, 7)
    seeds = vault.create(1)
    kept = tmp_path / f"{commitment(seeds.draw)}.json"
    kept.rename(kept.with_suffix(".partial"))
    kept.with_suffix(".partial").write_text("x" * 10_000)
    assert vault.create(1) == seeds
    assert set(json.loads(kept.read_text())) == {"draw", "secret"}
