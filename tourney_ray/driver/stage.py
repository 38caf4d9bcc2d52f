"""What a node is given before GPUs are held there: an entrant's image, and the data of its task (RULES §6).

Both are seen to at the same time, and each step may be repeated: what is there already is found. Only an image that its
miner's own fault keeps from being built costs an attempt.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from tourney_ray.config import Settings
from tourney_ray.core.events import ImageBuilt
from tourney_ray.core.models import Blame, Failed, TrainingSpec
from tourney_ray.core.record import Record
from tourney_ray.driver.folders import artifact_store, carried_folder
from tourney_ray.effects import contract
from tourney_ray.effects.carried import have, touch
from tourney_ray.effects.engine.build import BuiltImage, build_image
from tourney_ray.effects.engine.builder import BuildLimits
from tourney_ray.effects.engine.connection import Engine, connect
from tourney_ray.effects.engine.imports import find_named
from tourney_ray.effects.engine.transfer import take_image
from tourney_ray.effects.manifest import PREFIX
from tourney_ray.effects.process import printable
from tourney_ray.effects.provenance import Fault, keep, provenance_of
from tourney_ray.effects.task_cache import TaskCache
from tourney_ray.errors import ImageBuildFailed

TAIL_BYTES = 2_000


class Staged(Record):
    """What stands ready on a node."""

    image: BuiltImage
    because: str
    """How the image came to be there."""


class Carrier(Protocol):
    """Brings to this node what others have."""

    def image(self, image_id: str) -> Iterator[bytes] | None:
        """The image, in pieces; None where no node has it any more."""
        ...

    def files(self, paths: Sequence[str]) -> Iterator[bytes]:
        """These of the head's files, as one tar, with paths as below the state's folder."""
        ...


def stage(settings: Settings, spec: TrainingSpec, known: ImageBuilt | None, carrier: Carrier) -> Staged | Failed:
    """Have the entrant's image in this node's engine and its task's data in this node's cache.

    `known` is the image that all its trainings run; None where it is to be built now. The failure of a build that is
    the miner's fault, with its log and its record: the data stay all the same, for the task's other trainings. Raises
    `PlatformFault` for anything else that fails, of image and data that of the image; once both have come to their end.
    """
    with contextlib.closing(connect(settings.sandbox.host)) as engine, ThreadPoolExecutor(max_workers=1) as beside:
        data = beside.submit(_place_data, settings, spec, carrier)
        try:
            staged = _found(engine, spec, known) or _brought(engine, spec, known, carrier)
            staged = staged or _built(settings, engine, spec, known, carrier)
        except ImageBuildFailed as fault:
            return _failed(settings, spec, fault)
        _remember(settings, spec, staged.image)
        data.result()
    return staged


def task_cache(settings: Settings) -> TaskCache:
    """This node's models and training data."""
    return TaskCache(settings.state / "cache", settings.data, carried_folder(settings) / settings.data.name)


def known_image(settings: Settings, spec: TrainingSpec) -> BuiltImage | None:
    """What is known on this node of the image of an attempt; None where it was never staged here."""
    path = _log(settings, spec).with_suffix(".json")
    return BuiltImage.model_validate_json(path.read_bytes()) if path.exists() else None


def placed(settings: Settings, paths: Sequence[str], send: Callable[[Sequence[str]], Iterator[bytes]]) -> list[Path]:
    """Where these of the operator's models and data lie on this node, as they are named below `settings.data`.

    What the operator has not put there is brought by `send`, to a folder apart, which is swept and which no sandbox
    of a trainer ever sees. Raises `PlatformFault` for what cannot be had.
    """
    root, data = carried_folder(settings), settings.data
    lacking = [path for path in paths if not (data / path).exists()]
    brought = [f"{data.name}/{path}" for path in lacking]
    touch(root, brought)
    have(root, brought, send)
    return [(root / data.name if path in lacking else data) / path for path in paths]


def tree_path(tree_hash: str) -> str:
    """Where a vetted tree lies below the state's folder."""
    return f"repos/trees/{tree_hash}"


# --- the image


def _found(engine: Engine, spec: TrainingSpec, known: ImageBuilt | None) -> Staged | None:
    if known is None or find_named(engine, known.image_id) is None:
        return None
    return Staged(image=_as_built(spec, known), because="found: it was here before")


def _brought(engine: Engine, spec: TrainingSpec, known: ImageBuilt | None, carrier: Carrier) -> Staged | None:
    if known is None or (pieces := carrier.image(known.image_id)) is None:
        return None
    take_image(engine, known.image_id, contract.kind_of(spec.task_type), spec.tree_hash, pieces)
    return Staged(image=_as_built(spec, known), because="brought from another node")


def _built(
    settings: Settings, engine: Engine, spec: TrainingSpec, known: ImageBuilt | None, carrier: Carrier
) -> Staged:
    """Made from the tree, unless that was done here before."""
    tree = tree_path(spec.tree_hash)
    have(settings.state, [tree], carrier.files)
    choice, log = settings.sandbox, _log(settings, spec)
    log.parent.mkdir(parents=True, exist_ok=True)
    limits = BuildLimits(deadline_s=choice.build_deadline_s, network=choice.build_network)
    kind = contract.kind_of(spec.task_type)
    built = build_image(engine, kind, spec.tree_hash, settings.state / tree, log, limits)
    because = "found: it was built before" if built.found else "built from the tree"
    return Staged(image=built, because=f"{because}, for the image of before was lost" if known else because)


def _as_built(spec: TrainingSpec, known: ImageBuilt) -> BuiltImage:
    return BuiltImage(
        image_id=known.image_id,
        tree_hash=known.tree_hash,
        kind=contract.kind_of(spec.task_type),
        dockerfile_sha256=known.dockerfile_sha256,
        base_images=known.base_images,
        seconds=known.seconds,
        found=True,
    )


def _failed(settings: Settings, spec: TrainingSpec, fault: ImageBuildFailed) -> Failed:
    """The miner's failure, with the end of what the builder said; the record of it is kept."""
    log = _log(settings, spec)
    said = log.read_bytes()[-TAIL_BYTES:].decode("utf-8", errors="replace") if log.exists() else ""
    record = provenance_of(spec).model_copy(
        update={"fault": Fault(blame=Blame.MINER, kind=fault.kind, reason=fault.message)}
    )
    digest = keep(artifact_store(settings), record)
    return Failed(
        blame=Blame.MINER,
        kind=fault.kind,
        reason=fault.message,
        log_tail=printable(said),
        provenance=f"{PREFIX}{digest}",
    )


def _remember(settings: Settings, spec: TrainingSpec, built: BuiltImage) -> None:
    """Keep on this node what is known of the image, for the record of the attempt."""
    path = _log(settings, spec).with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex}")
    draft.write_text(built.model_dump_json(), encoding="utf-8")
    draft.replace(path)


# --- files


def _place_data(settings: Settings, spec: TrainingSpec, carrier: Carrier) -> None:
    placed(settings, [spec.data.model_path, spec.data.dataset_path], carrier.files)
    task_cache(settings).place(spec)


def _log(settings: Settings, spec: TrainingSpec) -> Path:
    return settings.state / "builds" / f"{spec.tree_hash}-{contract.kind_of(spec.task_type)}.log"
