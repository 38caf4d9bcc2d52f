"""Planted bugs about what is staged before GPUs are held, and who pays for an image that cannot be built."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from tests.simulation.planting import ALL_FAULTS, CALM, COMPARISON, TRUTH, Mutant, deaf, everywhere
from tourney_ray.core import placement
from tourney_ray.core.layout import Layout
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Blame, Failed
from tourney_ray.core.queueing import Line, Placed, Request
from tourney_ray.core.staging import Shelves
from tourney_ray.core.state import State, Training
from tourney_ray.driver.outcomes import staging_failed
from tourney_ray.simulation.cluster import Container
from tourney_ray.simulation.stager import UNBUILDABLE, Stager
from tourney_ray.simulation.watcher import Watcher

OTHER_IMAGE = f"sha256:{'ab' * 32}"


def _failed_builds(training: Training) -> int:
    outcomes = [attempt.outcome for attempt in training.attempts[training.counted_from :]]
    return sum(isinstance(o, Failed) and o.kind == UNBUILDABLE.kind for o in outcomes)


def _charge(patch: pytest.MonkeyPatch, per_build: int) -> None:
    honest: Any = vars(Training)["miner_failures"]

    def failures(training: Training) -> int:
        return honest.fget(training) + (per_build - 1) * _failed_builds(training)

    patch.setattr(Training, "miner_failures", property(failures))


def failed_build_is_free(patch: pytest.MonkeyPatch) -> None:
    _charge(patch, 0)


def failed_build_costs_both(patch: pytest.MonkeyPatch) -> None:
    _charge(patch, 2)


def leased_before_staged(patch: pytest.MonkeyPatch) -> None:
    honest = placement.place

    def place(queue: Iterable[Line], state: State, cluster: Cluster, now: datetime, layout: Layout) -> Placed:
        return honest(queue, state, replace(cluster, staged=None), now, layout)

    everywhere(patch, honest, place)


def staged_elsewhere(patch: pytest.MonkeyPatch) -> None:
    honest = Shelves.lies

    def lies(self: Shelves, request: Request) -> Collection[str]:
        return self._sizes.gpus if honest(self, request) else ()

    patch.setattr(Shelves, "lies", lies)


def other_image(patch: pytest.MonkeyPatch) -> None:
    honest = Watcher._container

    def container(self: Watcher) -> Container:
        return replace(honest(self), image_id=OTHER_IMAGE) if self._command.spec.epoch > 1 else honest(self)

    patch.setattr(Watcher, "_container", container)
    deaf(patch, "its image is")


def engine_charged(patch: pytest.MonkeyPatch) -> None:
    def fail(self: Stager) -> None:
        down = Failed(blame=Blame.MINER, kind="engine_down", reason="the container engine does not answer")
        self._tell(staging_failed(self._command, down))

    patch.setattr(Stager, "_try_again", fail)


MUTANTS = (
    Mutant("build for nothing", "A failed build costs nothing.", failed_build_is_free, "invariant 4", CALM),
    Mutant("build counts twice", "A failed build costs both attempts.", failed_build_costs_both, "invariant 4", CALM),
    Mutant("not staged", "GPUs are leased before anything is staged.", leased_before_staged, TRUTH, CALM),
    Mutant("staged elsewhere", "What is staged on one node starts on another.", staged_elsewhere, TRUTH, CALM),
    Mutant("other image", "A second attempt runs another image.", other_image, "invariant 8", CALM),
    Mutant("engine charged", "A machine's fault in staging costs an attempt.", engine_charged, COMPARISON, ALL_FAULTS),
)
