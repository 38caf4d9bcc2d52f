"""A checker that finds nothing proves nothing: every planted bug has to be found, and by whom it should be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.golden import harness
from tests.golden.adapters import ADAPTERS
from tests.simulation.mutants import MUTANTS
from tests.simulation.planting import HALT, VECTORS, Mutant, catcher
from tourney_ray.simulation.run import Setting
from tourney_ray.simulation.sweep import play_seed

pytestmark = pytest.mark.lies

SEEDS = range(1, 201)
SIMULATED = [m for m in MUTANTS if not m.vectors]
SETTINGS = [m.setting for i, m in enumerate(SIMULATED) if m.setting not in [o.setting for o in SIMULATED[:i]]]


@pytest.mark.parametrize("mutant", SIMULATED, ids=lambda m: m.name)
def test_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.plant(monkeypatch)
    seed, found = next(
        ((s, v) for s in SEEDS if (v := play_seed(mutant.setting, s).violations)), (None, tuple[str, ...]())
    )
    catchers = Counter(map(catcher, found))
    assert mutant.caught_by in catchers, f"{mutant.bug} In seed {seed}: {dict(catchers)} {found[:3]}"


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.vectors], ids=lambda m: m.name)
def test_is_caught_by_the_vectors(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parents[1] / "golden" / "vectors" / f"{mutant.vectors}.jsonl"
    assert not harness.check(ADAPTERS[mutant.vectors], path).wrong
    mutant.plant(monkeypatch)
    assert harness.check(ADAPTERS[mutant.vectors], path).wrong


@pytest.mark.parametrize("setting", SETTINGS, ids=range(len(SETTINGS)))
def test_without_a_bug_nothing_is_caught(setting: Setting) -> None:
    assert [v for seed in range(1, 6) for v in play_seed(setting, seed).violations] == []


def test_most_are_caught_while_the_driver_goes_on() -> None:
    assert sum(m.caught_by not in (HALT, VECTORS) for m in MUTANTS) >= 12
    assert len(MUTANTS) >= 20
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
