"""One training in a container, on the node where this runs: its start, its end, and what it leaves.

Each step may be repeated, by whoever watches the attempt next: what is there already is found.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from pathlib import Path

from tourney_ray.config import Settings
from tourney_ray.core.models import TrainingOutcome, TrainingSpec
from tourney_ray.driver.folders import artifact_store
from tourney_ray.driver.stage import known_image, task_cache
from tourney_ray.effects import contract
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.attempt_folder import AttemptFolder
from tourney_ray.effects.engine.connection import Engine, connect
from tourney_ray.effects.engine.options import Limits
from tourney_ray.effects.engine.reaper import Leased, reap
from tourney_ray.effects.engine.trainer import ContainerTrainer, output_of
from tourney_ray.effects.keeping import Remains, keep_failure, keep_remains
from tourney_ray.effects.ports import News, Place
from tourney_ray.effects.provenance import Bounds, Course, Machine, Provenance, model_digest, provenance_of
from tourney_ray.effects.ran import Ran

GIB = 2**30


def train(settings: Settings, spec: TrainingSpec, place: Place, news: News) -> Ran | TrainingOutcome:
    """Run the container of an attempt that is staged on this node, or the one that is there, to its end.

    Raises `PlatformFault`: `InputsMissing` where it is not staged any more.
    """
    with _engine(settings) as engine:
        return _trainer(settings, engine).train(spec, replace(place, driver=driver_label(settings)), news)


def collect(settings: Settings, spec: TrainingSpec, ran: Ran) -> TrainingOutcome:
    """What is kept of a training whose container is gone; its output folder on this node is gone afterwards.

    Raises `PlatformFault` where it cannot be kept.
    """
    store = artifact_store(settings)
    folder = AttemptFolder(_work(settings), spec)
    with folder.held():
        if kept := folder.outcome():
            return kept
        return folder.write_outcome(_kept(settings, store, spec, ran))


def _kept(settings: Settings, store: ArtifactStore, spec: TrainingSpec, ran: Ran) -> TrainingOutcome:
    with output_of(_work(settings), spec, limits_of(settings)) as checkpoints:
        logs = f"{contract.LOGS}/{contract.log_folder(spec)}"
        remains = Remains(checkpoints, contract.output_folder(spec), checkpoints, logs)
        record = provenance_of_run(settings, spec, ran)
        if ran.failed:
            return keep_failure(store, remains, record, ran.failed)
        return keep_remains(store, remains, record, ran.log_tail)


def release(settings: Settings, spec: TrainingSpec) -> str:
    """How it is known that nothing of an attempt runs on this node, nor ever will. Raises `PlatformFault`."""
    with _engine(settings) as engine:
        return _trainer(settings, engine).release(spec)


def reap_node(settings: Settings, leased: Leased) -> list[str]:
    """The attempts whose containers were removed here, for they hold no GPUs any more. Raises `PlatformFault`."""
    with _engine(settings) as engine:
        return reap(engine, driver_label(settings), leased)


def driver_label(settings: Settings) -> str:
    """Whose containers they are: two drivers of one name, with journals of their own, may share an engine."""
    return f"{settings.name}-{hashlib.sha256(str(settings.state).encode()).hexdigest()[:12]}"


def limits_of(settings: Settings) -> Limits:
    """What the operator allows each container."""
    choice = settings.sandbox
    return Limits(
        mem_reserve_bytes=int(choice.mem_reserve_gib * GIB),
        mem_per_gpu=choice.mem_per_gpu,
        layer_bytes=int(choice.layer_gib * GIB),
        output_bytes=int(choice.output_gib * GIB),
        devices=choice.devices,
    )


def provenance_of_run(settings: Settings, spec: TrainingSpec, ran: Ran) -> Provenance:
    """Where what a container left comes from, but for that itself. Raises `OSError` where its model cannot be read."""
    record = provenance_of(spec)
    built = known_image(settings, spec)
    source = {
        "image_id": ran.image_id,
        "dockerfile_sha256": built.dockerfile_sha256 if built else "",
        "base_image_ids": built.base_images if built else (),
    }
    model = model_digest(task_cache(settings).folder(spec) / contract.model_folder(spec))
    return record.model_copy(
        update={
            "source": record.source.model_copy(update=source),
            "inputs": record.inputs.model_copy(update={"model_sha256": model}),
            "held_to": Bounds.model_validate({"hours": spec.hours_to_complete, **ran.held_to}),
            "machine": Machine(
                gpu_type=spec.gpu_requirement.gpu_type, gpu_indices=ran.gpu_indices, engine="docker", **ran.machine
            ),
            "course": Course(
                started_at=ran.started_at,
                finished_at=ran.finished_at,
                seconds=ran.seconds,
                exit_code=ran.exit_code,
                oom_killed=ran.oom_killed,
                stopped_at_deadline=ran.stopped_at_deadline,
            ),
        }
    )


def _trainer(settings: Settings, engine: Engine) -> ContainerTrainer:
    return ContainerTrainer(engine, _work(settings), task_cache(settings), limits_of(settings))


def _work(settings: Settings) -> Path:
    return settings.state / "work"


def _engine(settings: Settings) -> contextlib.closing[Engine]:
    return contextlib.closing(connect(settings.sandbox.host))
