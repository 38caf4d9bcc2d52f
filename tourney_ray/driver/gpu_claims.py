"""The GPU on which an evaluator computes: one that no container and no other evaluator of its node has."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from tourney_ray.config import Settings
from tourney_ray.driver.containers import driver_label
from tourney_ray.effects.engine.connection import connect
from tourney_ray.effects.engine.containers import Containers
from tourney_ray.effects.engine.gpu_claims import GpuClaims
from tourney_ray.effects.engine.gpus import choose, node_lock, taken_by
from tourney_ray.effects.engine.labels import OurLabels

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Set by Ray to the indices that a worker holds, and read by CUDA."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of a node's GPUs, whichever is free."""

    node: str
    gpu_type: str
    gpus: int
    """All of the node's, of that type."""


def claim_gpu(settings: Settings, gpu: Gpu) -> int:
    """The index of a GPU that this process holds from now on, and the only one that it and its children see.

    Where containers run it may be another one than Ray's, whose books know nothing of a container that was taken over.
    Raises `EngineDown` where the engine does not answer or all of them are held.
    """
    ours = tuple(int(index) for index in os.environ.get(VISIBLE, "").split(",") if index.isdigit())
    index = ours[0] if settings.sandbox.kind != "docker" and ours else _claimed(settings, gpu, ours)
    os.environ[VISIBLE] = str(index)
    return index


def _claimed(settings: Settings, gpu: Gpu, ours: tuple[int, ...]) -> int:
    work, devices = settings.state / "work", settings.sandbox.devices
    claims = GpuClaims(work, gpu.node, gpu.gpu_type, devices)
    with contextlib.closing(connect(settings.sandbox.host)) as engine, node_lock(work):
        nobody = OurLabels(driver_label(settings), "", "", "", "", 0, gpu.node, gpu.gpu_type, ())
        holders = taken_by(Containers(engine).holding(), nobody, devices) | claims.holders()
        (index,) = choose(1, gpu.gpus, ours, holders.keys(), holders)
        claims.claim(index)
    return index
