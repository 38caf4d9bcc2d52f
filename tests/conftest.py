"""What every test may lean on: skipping with a reason where a machine lacks something, and failing instead under CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from typing import NoReturn

import pytest
from hypothesis import settings

from tests.witness import Witness

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")  # how fast anything is, is no matter of a test

PROBES: dict[str, tuple[str, ...]] = {
    "bwrap": ("--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true"),
    "git": ("--version",),
}
"""Arguments with which a tool that works exits 0. Being on the PATH is not enough for a sandbox without its rights."""


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the calling test because of `reason`; fail it under `CI=true`, where everything has to be installed."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"skipped under CI: {reason}", pytrace=False)
    pytest.skip(reason)


def need_tool(tool: str) -> str:
    """The path of a program that is installed and works; else the calling test is skipped, or fails under CI."""
    path = shutil.which(tool)
    if path is None:
        skip_or_fail(f"{tool} is not installed")
    if complaint := _complaint(path, PROBES.get(tool)):
        skip_or_fail(f"{tool} is installed but does not work here: {complaint}")
    return path


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--vectors DIR`, here because pytest asks no deeper conftest before it reads its arguments."""
    parser.addoption("--vectors", metavar="DIR", help="recorded decisions for tests/golden, instead of the copied ones")


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """`need("bwrap")` in a test or fixture: see `need_tool`."""
    return need_tool


@pytest.fixture(autouse=True)
def every_recorded_fact_is_checked(request: pytest.FixtureRequest) -> Iterator[None]:
    """The invariants hold in every journal that a test makes, unless it is marked as one that records `lies`."""
    if request.node.get_closest_marker("lies"):
        yield
        return
    witness = Witness()
    with witness.looking():
        yield
    assert not witness.found, f"{len(witness.found)} violations; the first: {witness.found[0]}"


@cache
def _complaint(path: str, probe: tuple[str, ...] | None) -> str:
    if probe is None:
        return ""
    run = subprocess.run([path, *probe], capture_output=True, text=True, timeout=30, check=False)
    if run.returncode == 0:
        return ""
    return run.stderr.strip() or f"exit status {run.returncode}"
