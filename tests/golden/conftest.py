"""Which vectors are compared, and the table of what became of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.harness import Tally

COPIED = Path(__file__).parent / "vectors"
TALLIES = pytest.StashKey[dict[str, Tally]]()


def _folder(config: pytest.Config) -> Path:
    given: str | None = config.getoption("--vectors")
    folder = Path(given) if given else COPIED
    if not any(folder.glob("*.jsonl")):
        raise pytest.UsageError(f"--vectors {folder}: there are no *.jsonl files")
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per file of the folder."""
    if "vectors" in metafunc.fixturenames:
        files = sorted(_folder(metafunc.config).glob("*.jsonl"))
        metafunc.parametrize("vectors", files, ids=[file.stem for file in files])


@pytest.fixture
def vector_folder(pytestconfig: pytest.Config) -> Path:
    """The folder that is compared."""
    return _folder(pytestconfig)


@pytest.fixture
def golden_tallies(pytestconfig: pytest.Config) -> dict[str, Tally]:
    """Where each file's tally is put for the table at the end."""
    return pytestconfig.stash.setdefault(TALLIES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Rows of each file: compared as recorded, fixed by the rules, skipped, and wrong."""
    tallies = config.stash.get(TALLIES, {})
    if not tallies:
        return
    terminalreporter.section("recorded decisions")
    terminalreporter.line(f"{'file':<40}{'recorded':>9}{'fixed':>7}{'skipped':>9}{'wrong':>7}")
    total = [0, 0, 0, 0]
    for stem, tally in sorted(tallies.items()):
        numbers = [tally.recorded, tally.fixed, tally.skipped, len(tally.wrong)]
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        terminalreporter.line(_line(stem, numbers))
    terminalreporter.line(_line("in all", total))


def _line(name: str, numbers: list[int]) -> str:
    recorded, fixed, skipped, wrong = numbers
    return f"{name:<40}{recorded:>9}{fixed:>7}{skipped:>9}{wrong:>7}"
