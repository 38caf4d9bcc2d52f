"""The copy of a record is what the standard library makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tourney_ray.core import replacing


@dataclass(frozen=True, slots=True)
class Pair:
    left: int
    right: int = 2


@dataclass(frozen=True, slots=True)
class Sum:
    terms: tuple[int, ...] = ()
    name: str = "none"

    total: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(self.terms))


def test_it_has_what_was_given_and_what_was_there() -> None:
    pair = Pair(1, 3)
    assert replacing.replace(pair, right=4) == replace(pair, right=4) == Pair(1, 4)
    assert replacing.replace(pair) == pair == Pair(1, 3)
    assert replacing.replace(pair) is not pair


def test_what_follows_from_a_field_follows_from_the_new_one() -> None:
    assert replacing.replace(Sum((1, 2)), terms=(1, 2, 4)).total == 7


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="a Pair has no middle"):
        replacing.replace(Pair(1), middle=3)
