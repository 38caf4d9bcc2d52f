"""Every recorded decision of the public implementation against ours, one test per file of vectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.adapters import ADAPTERS, SKIPPED
from tests.golden.harness import Tally, check, complaint


def test_file(vectors: Path, golden_tallies: dict[str, Tally]) -> None:
    stem = vectors.stem
    if stem not in ADAPTERS:
        pytest.fail(f"{vectors.name} has no adapter: write one in tests/golden/adapters", pytrace=False)
    tally = golden_tallies[stem] = check(ADAPTERS[stem], vectors)
    said = complaint(vectors.name, tally, may_be_skipped=stem in SKIPPED)
    if said:
        pytest.fail(said, pytrace=False)
