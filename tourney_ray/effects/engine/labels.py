"""The name and labels of our containers: how a watcher, a reaper and a person know whose they are.

Guarantee: every label is set on every container of ours, so that none can be inherited from a miner's image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tourney_ray.core.models import TrainingSpec

PREFIX = "tourney."
NAME_PREFIX = "tourney-"
SHORT = 24
"""How much of an attempt's id its container's name shows."""

NUMBER = re.compile(r"[1-9][0-9]{0,8}")
INDICES = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{1,3})*)?")
UNSAFE = re.compile(r"[^a-zA-Z0-9_.-]+")


@dataclass(frozen=True)
class OurLabels:
    """What a container of ours says of itself."""

    driver: str
    tournament: str
    task: str
    hotkey: str
    attempt: str
    epoch: int
    """Of the lease, ≥ 1."""
    node: str
    gpu_type: str
    gpus: tuple[int, ...]
    """Indices, ascending; of the devices, or only counted."""

    def words(self) -> dict[str, str]:
        """As the engine keeps them."""
        texts = {name: getattr(self, name) for name in TEXTS}
        numbers = {"epoch": str(self.epoch), "gpus": ",".join(map(str, self.gpus))}
        return {f"{PREFIX}{name}": text for name, text in (texts | numbers).items()}


TEXTS = ("driver", "tournament", "task", "hotkey", "attempt", "node", "gpu_type")


def labels_of(spec: TrainingSpec, node: str, driver: str, gpu_indices: Iterable[int]) -> OurLabels:
    """The labels of an attempt's container; `words()` of them is what the engine takes."""
    return OurLabels(
        driver=driver,
        tournament=spec.tournament_id,
        task=spec.task_id,
        hotkey=spec.hotkey,
        attempt=spec.attempt_id,
        epoch=spec.epoch,
        node=node,
        gpu_type=spec.gpu_requirement.gpu_type,
        gpus=tuple(sorted(set(gpu_indices))),
    )


def parse_labels(labels: Mapping[str, object] | None) -> OurLabels | None:
    """The labels of a container of ours; None when one is missing or says nothing sensible, as a stranger's may."""
    found = {name: (labels or {}).get(PREFIX + name) for name in (*TEXTS, "epoch", "gpus")}
    texts = {name: text for name, text in found.items() if isinstance(text, str)}
    if len(texts) < len(found) or not all(texts[name] for name in TEXTS):
        return None
    epoch, gpus = texts.pop("epoch"), texts.pop("gpus")
    if not NUMBER.fullmatch(epoch) or not INDICES.fullmatch(gpus):
        return None
    indices = tuple(int(index) for index in gpus.split(",") if index)
    if list(indices) != sorted(set(indices)):
        return None
    return OurLabels(**texts, epoch=int(epoch), gpus=indices)


def container_name(spec: TrainingSpec) -> str:
    """`tourney-{attempt, shortened}-{epoch}-{hash}`: the same for the same lease, so that a second one is refused."""
    whole = f"{spec.tournament_id}|{spec.attempt_id}|{spec.epoch}"
    digest = hashlib.sha256(whole.encode()).hexdigest()[:12]
    short = UNSAFE.sub("_", spec.attempt_id)[:SHORT]
    return f"{NAME_PREFIX}{short}-{spec.epoch % 10**9}-{digest}"
