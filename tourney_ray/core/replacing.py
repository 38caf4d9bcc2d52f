"""Copies of the state's dataclasses with some of their fields replaced, which is most of what a fact does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields as fields_of
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")


def replace(record: R, **fields: Any) -> R:
    """A copy of a dataclass that has slots, with these values in these fields, as `dataclasses.replace` makes it.

    That one asks the class about every field each time, which takes several times as long. The class has at least two
    fields, all of them its own. Raises `TypeError` for one that it has not.
    """
    kind = type(record)
    known = _known(kind)
    copy = object.__new__(kind)
    for put, value in zip(known.put.values(), known.values_of(record), strict=True):
        put(copy, value)
    for name, value in fields.items():
        if name not in known.put:
            raise TypeError(f"a {kind.__name__} has no {name}")
        known.put[name](copy, value)
    if known.derive:
        known.derive(copy)
    return copy


class _Known(NamedTuple):
    """How the fields of a class are read and written."""

    values_of: Callable[[Any], tuple[Any, ...]]
    put: dict[str, Callable[[Any, Any], None]]
    """By field, in their order."""
    derive: Callable[[Any], None] | None
    """What follows from other fields."""


@cache
def _known(kind: type[Any]) -> _Known:
    names = [field.name for field in fields_of(kind)]
    put = {name: vars(kind)[name].__set__ for name in names}
    return _Known(attrgetter(*names), put, getattr(kind, "__post_init__", None))
