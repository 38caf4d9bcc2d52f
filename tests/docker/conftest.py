"""One private container engine for all tests here; after the last of them nothing of it may be left on this machine."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.docker.bench import Bench
from tests.docker.engine import PrivateEngine, private_engine, why_not
from tests.docker.yard import Yard, clean_yard
from tourney_ray.effects.engine.connection import Engine, connect
from tourney_ray.samples.base_image import ensure_base_image

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def dockerd() -> Generator[PrivateEngine]:
    """The daemon itself, with the folder that it writes to."""
    if reason := why_not():
        skip_or_fail(reason)
    with private_engine() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def engine(dockerd: PrivateEngine) -> Generator[Engine]:
    """A connection to it."""
    connection = connect(dockerd.host)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def tiny(engine: Engine) -> str:
    """The image with Python and a shell that small trainers are built on."""
    return ensure_base_image(engine, tiny=True).image_id


@pytest.fixture
def bench(engine: Engine, tiny: str, tmp_path: Path) -> Generator[Bench]:
    """A workbench of this test's own; whatever it leaves is removed."""
    del tiny
    bench = Bench(engine, tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def yard(engine: Engine, tiny: str, tmp_path: Path) -> Generator[Yard]:
    """A place to build in; whatever a build leaves fails the test."""
    del tiny
    with clean_yard(engine, tmp_path) as yard:
        yield yard


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs an engine."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("docker")
