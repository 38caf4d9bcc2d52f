"""Lays out what a trainer without a container finds: its inputs, its logs, its environment, the program to start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tourney_ray.core.models import TrainingSpec
from tourney_ray.effects import bubblewrap, contract
from tourney_ray.effects.attempt_folder import AttemptFolder, file_name
from tourney_ray.effects.process import CappedLog, Job
from tourney_ray.effects.tree import folder_tree_hash
from tourney_ray.errors import InputsMissing, RepoRejected, StorageUnavailable

LAUNCHER = Path(__file__).with_name("launch.py")


def check_tree(spec: TrainingSpec, source: Path) -> None:
    """Raise `StorageUnavailable` unless `source` holds exactly the tree that the attempt is for."""
    try:
        found = folder_tree_hash(source)
    except OSError as problem:
        raise StorageUnavailable(f"{spec.hotkey}'s repository at {source} cannot be read: {problem}") from problem
    if found != spec.tree_hash:
        raise StorageUnavailable(f"{source} holds tree {found[:12]}, not {spec.hotkey}'s {spec.tree_hash[:12]}")


def program_of(spec: TrainingSpec, source: Path) -> list[str]:
    """The trainer's program with its command line, as in a container; raises `RepoRejected` where there is none."""
    dockerfile = source / contract.dockerfile_of(spec.task_type)
    if not dockerfile.is_file():
        raise RepoRejected(f"{spec.hotkey}'s repository has no {contract.dockerfile_of(spec.task_type)}")
    words = contract.parse_entrypoint(dockerfile.read_text(encoding="utf-8", errors="replace"))
    return [*words, *contract.contract_arguments(spec)]


class Stage:
    """The inputs and folders of one attempt. The test set is not among them."""

    def __init__(self, root: Path, work: Path, spec: TrainingSpec, folder: AttemptFolder) -> None:
        self._spec = spec
        self._folder = folder
        self._logs = work / contract.LOGS / file_name(contract.log_folder(spec))
        self._inputs = {
            contract.model_folder(spec): root / spec.data.model_path,
            contract.dataset_file(spec): root / spec.data.dataset_path,
        }

    def start_isolated(self, program: list[str], source: Path) -> Job:
        """Start `program` under bubblewrap, at the contract's own paths."""
        inside = f"{contract.LOGS}/{contract.log_folder(self._spec)}"
        self._prepare()
        (self._folder.checkpoints / inside).mkdir(parents=True)
        status = os.pipe()
        words = bubblewrap.command(
            program,
            self._environment(contract.CACHE, contract.CHECKPOINTS),
            {contract.WORKSPACE: source, **{f"{contract.CACHE}/{path}": host for path, host in self._inputs.items()}},
            {contract.CHECKPOINTS: self._folder.checkpoints, f"{contract.CHECKPOINTS}/{inside}": self._logs},
            status[1],
        )
        return Job(words, bubblewrap.HOST_PATH, self._folder.path, CappedLog(self._folder.log), status)

    def start_plain(self, program: list[str], source: Path) -> Job:
        """Start `program` as a process like any other, with links and variables in place of mounts."""
        checkpoints, cache = self._folder.checkpoints, self._folder.path / "cache"
        links = {cache / path: host for path, host in self._inputs.items()}
        links[checkpoints / contract.LOGS / contract.log_folder(self._spec)] = self._logs
        self._prepare()
        for link, host in links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(host)
        moved = [word.replace(contract.WORKSPACE, str(source), 1) for word in program]
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid())]
        env = self._environment(str(cache), str(checkpoints))
        return Job([*launch, *moved], env, source, CappedLog(self._folder.log), os.pipe())

    def _prepare(self) -> None:
        """Make the attempt's folder anew; the logs stay, for they belong to all attempts of a training."""
        missing = [str(host) for host in self._inputs.values() if not host.exists()]
        if missing:
            raise InputsMissing(f"the data of task {self._spec.task_id} is not here: {', '.join(missing)}")
        self._folder.begin()
        self._logs.mkdir(parents=True, exist_ok=True)

    def _environment(self, cache: str, checkpoints: str) -> dict[str, str]:
        """All that a trainer's environment holds: the contract, one thread, and nothing of ours."""
        return {
            "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": "/tmp",
            "USER": "trainer",
            "LC_ALL": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "TOURNEY_CACHE": cache,
            "TOURNEY_CHECKPOINTS": checkpoints,
            **contract.contract_environment(self._spec, cache, checkpoints),
        }
