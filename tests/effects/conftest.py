"""Fixtures for the outside worlds: sandboxes that isolate and sandboxes that do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.effects.builders_sandbox import World


@pytest.fixture
def need_bubblewrap(need: Callable[[str], str]) -> str:
    """Skip, or under CI fail, where bubblewrap does not work."""
    return need("bwrap")


@pytest.fixture(params=["process", "bubblewrap"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A world for each kind of sandbox."""
    if request.param == "bubblewrap":
        request.getfixturevalue("need_bubblewrap")
    return World(tmp_path, request.param)


@pytest.fixture
def isolated(need_bubblewrap: str, tmp_path: Path) -> World:
    """A world whose trainers are isolated."""
    return World(tmp_path, "bubblewrap")
