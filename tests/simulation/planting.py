"""How bugs are planted: in place of a function wherever its name is looked up, and past the guards of `evolve`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from tourney_ray.core import trainings
from tourney_ray.core.events import Fact
from tourney_ray.simulation.faults import KINDS
from tourney_ray.simulation.run import Setting

ALL_FAULTS = Setting(faults=frozenset(KINDS), varies=True)
CALM = Setting()
HALT, STUCK, COMPARISON, TRUTH, VECTORS = "halt", "stuck", "comparison", "ground truth", "vectors"


@dataclass(frozen=True)
class Mutant:
    """A planted bug, and who is expected to catch it."""

    name: str
    bug: str
    plant: Callable[[pytest.MonkeyPatch], None]
    caught_by: str
    """`invariant N`, `comparison`, `ground truth`, `halt`, `stuck`, or `vectors`."""
    setting: Setting = field(default=ALL_FAULTS)
    """What is played; of the settings that show the bug, the smallest."""
    vectors: str = ""
    """The file of vectors that shows it, where the simulation cannot."""


def catcher(violation: str) -> str:
    """Who found that violation."""
    if "breaks invariant" in violation:
        return "invariant " + violation.split("breaks invariant ")[1].split(":")[0]
    if violation.startswith("invariant "):
        return violation.split(":")[0]
    if violation.startswith("the driver halted"):
        return HALT
    if violation.startswith("stuck after"):
        return STUCK
    if "was let start" in violation or "frees the GPUs" in violation:
        return TRUTH
    return COMPARISON


def everywhere(patch: pytest.MonkeyPatch, honest: Callable[..., Any], bug: Callable[..., Any]) -> None:
    """Put `bug` in place of a function in every module that has it, but not where it is checked."""
    for module in list(_modules()):
        for name, value in list(vars(module).items()):
            if value is honest:
                patch.setattr(module, name, bug)


def deaf(patch: pytest.MonkeyPatch, *reasons: str) -> None:
    """Let `evolve` accept what it refuses for these reasons."""
    honest = trainings.need

    def need(condition: bool, fact: Fact, why: str) -> None:
        honest(condition or any(reason in why for reason in reasons), fact, why)

    everywhere(patch, honest, need)


def _modules() -> Iterator[ModuleType]:
    for name, module in sys.modules.items():
        if name.startswith(("tourney_ray.", "tests.golden.")) and not name.startswith("tourney_ray.core.invariants"):
            yield module
