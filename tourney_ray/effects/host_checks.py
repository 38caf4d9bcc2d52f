"""Whether a machine may join as a worker: its engine, NVIDIA's container toolkit, its rights and its GPUs.

Guarantee: what is missing is said before the machine takes work, each fault in a sentence with what to do.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tourney_ray.effects.cluster_file import GPU_TYPES
from tourney_ray.effects.engine.connection import EngineFacts, connect
from tourney_ray.errors import EngineDown, PlatformFault

OLDEST_TOOLKIT = (1, 17, 8)
"""In older ones a container can break out onto its host (CVE-2024-0132, CVE-2025-23266)."""

TOOLKIT = ("nvidia-container-cli", "--version")
GPUS = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
TOOL_S = 60.0


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine has, and what keeps it from joining."""

    gpus: dict[str, int]
    """By type, as the driver names them."""
    faults: tuple[str, ...]


def look_over(engine_host: str = "") -> Host:
    """This machine, looked over as a worker that trains strangers' code in containers."""
    faults: list[str] = []
    gpus: dict[str, int] = {}
    for look in (lambda: _engine_faults(engine_host), _toolkit_faults, _rights_faults):
        try:
            faults += look()
        except PlatformFault as fault:
            faults.append(_sentence(fault))
    try:
        gpus = count_gpus(_said(GPUS, "install NVIDIA's driver").splitlines())
    except PlatformFault as fault:
        faults.append(_sentence(fault))
    return Host(gpus, tuple(faults))


def count_gpus(names: Sequence[str]) -> dict[str, int]:
    """GPUs by type from the names that NVIDIA's driver gives them; raises `EngineDown` for one that nobody asks for."""
    found: Counter[str] = Counter()
    for name in filter(None, map(str.strip, names)):
        kinds = [kind for kind in GPU_TYPES if re.search(rf"\b{kind}\b", name)]
        if not kinds:
            known = " or ".join(sorted(GPU_TYPES))
            raise EngineDown(f"a GPU of this machine is called {name}", f"trainings ask for {known} only")
        found[kinds[0]] += 1
    if not found:
        raise EngineDown("this machine has no GPU", "see nvidia-smi")
    return dict(found)


def claim_faults(claimed: Mapping[str, float], gpus: Mapping[str, int]) -> list[str]:
    """How the resources that Ray is told differ from the GPUs that are there; other resources are nobody's business."""
    told = {kind: int(count) for kind, count in claimed.items() if kind in {"GPU", *GPU_TYPES} and count}
    there = {**gpus, **({"GPU": sum(gpus.values())} if gpus else {})}
    return [] if told == there else [f"Ray is told that this machine has {told}, but it has {there}: correct resources"]


def toolkit_version(said: str) -> tuple[int, int, int]:
    """The version in what NVIDIA's container tool says of itself; raises `EngineDown` where there is none."""
    match = VERSION.search(said)
    if match is None:
        raise EngineDown("NVIDIA's container toolkit does not say which version it is", "install it anew")
    major, minor, patch = map(int, match.groups())
    return major, minor, patch


def engine_faults(facts: EngineFacts) -> list[str]:
    """What an engine's own settings lack."""
    faults: list[str] = []
    if not facts.live_restore:
        faults.append('the engine ends containers when it restarts: put {"live-restore": true} into its daemon.json')
    if facts.cgroup_driver != "cgroupfs":
        want = '{"exec-opts": ["native.cgroupdriver=cgroupfs"]}'
        faults.append(f"builds cannot be bounded by this engine: put {want} into its daemon.json")
    if facts.rootless:
        faults.append("the engine runs without root, and so without limits for containers: install Docker's usual one")
    return faults


def _engine_faults(engine_host: str) -> list[str]:
    engine = connect(engine_host)
    engine.close()
    return engine_faults(engine.facts)


def _toolkit_faults() -> list[str]:
    found = toolkit_version(_said(TOOLKIT, "install the package nvidia-container-toolkit"))
    if found >= OLDEST_TOOLKIT:
        return []
    return [
        f"NVIDIA's container toolkit is {_dotted(found)}: containers can break out of anything before "
        f"{_dotted(OLDEST_TOOLKIT)}, upgrade the package nvidia-container-toolkit"
    ]


def _rights_faults() -> list[str]:
    return [] if os.geteuid() == 0 else ["this is not root: Ray has to run as root here, so that builds can be bounded"]


def _said(command: Sequence[str], hint: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = error.strerror if isinstance(error, OSError) else "it does not end"
        raise EngineDown(f"{command[0]} cannot be run: {why}", hint) from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise EngineDown(f"{command[0]} failed: {' '.join(last)}", hint)
    return done.stdout


def _sentence(fault: PlatformFault) -> str:
    return f"{fault.message}: {fault.hint}"


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
