"""The evaluator of strangers' checkpoints: a sandboxed process, kept warm, asked again after it died.

Guarantee: what is returned was said by the process and contradicts itself nowhere. Where the settings ask for a sandbox
and there is none, nothing is evaluated.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

from pydantic import ValidationError

from tourney_ray.config import Sandbox, Settings
from tourney_ray.core.evaluations import Device, Question, Reply, contradiction
from tourney_ray.core.models import Evaluated, TaskData, TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.driver.folders import carried_folder, checkouts_folder
from tourney_ray.effects import bubblewrap
from tourney_ray.effects.evaluator_process import EvaluatorProcess
from tourney_ray.effects.evaluator_sandbox import EvaluatorSandbox, Reading, machine_memory, need_isolation
from tourney_ray.effects.rewards import without_network
from tourney_ray.errors import ConfigError, EngineDown, EvaluatorCrashed, EvaluatorDied

GIB = 2**30
CHILD = "tourney_ray.evaluation.child"
START_S = 300.0
"""For importing torch: seconds where its files are cached, half a minute or more where the disk is cold and busy."""

LEAST_MEM_GIB = 0.5
"""torch alone takes a third of a GiB."""


class SandboxedEvaluator:
    """The `Evaluator` port in a process of its own. `root` is the folder of task data whose paths are relative."""

    def __init__(
        self,
        root: Path,
        reading: Reading,
        within_s: float,
        isolated: bool,
        rules: Rules | None = None,
        device: Device = "cpu",
    ) -> None:
        self._root = root
        self._device = device
        self._rules = rules or Rules()
        self._within_s = within_s
        self._sandbox = EvaluatorSandbox(reading, isolated)
        self._process: EvaluatorProcess | None = None
        self._ready = False
        self._asked = 0

    def __enter__(self) -> SandboxedEvaluator:
        """The evaluator itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of it runs any more."""
        self.close()

    def warm_up(self) -> EvaluatorProcess:
        """The process, started so that its imports are under way; raises `EngineDown` where it cannot be isolated."""
        if self._process is None:
            launch = () if self._sandbox.isolated or bubblewrap.why_not() else without_network(())
            program = [
                sys.executable,
                "-m",
                CHILD,
                str(self._root),
                self._rules.model_dump_json(),
                self._device,
                *launch,
            ]
            self._process = EvaluatorProcess(self._sandbox.words(program), self._sandbox.env)
            self._ready = False
        return self._process

    def evaluate(
        self, task_type: TaskType, data: TaskData, checkpoint: Path, seed: bytes, *, rehearse: bool = False
    ) -> Evaluated:
        """The metric of `checkpoint`, an absolute path; `rehearse` for one at which the process died before.

        It is then read by a new process that has evaluated the base model itself first, so that its death can be
        nobody else's doing. Raises `EvaluatorDied` when the process dies at the checkpoint, `EngineDown` where nothing
        can be evaluated, and `EvaluatorCrashed` for anything else.
        """
        if rehearse:
            self._rehearse(task_type, data, seed)
        return self._ask(task_type, data, checkpoint, seed)

    def close(self) -> None:
        """End the process, and return when nothing of it runs."""
        self._end()
        self._sandbox.close()

    def _rehearse(self, task_type: TaskType, data: TaskData, seed: bytes) -> None:
        self._end()
        try:
            self._ask(task_type, data, self._root / data.model_path, seed)
        except EvaluatorDied as died:
            raise EvaluatorCrashed(f"the base model itself cannot be evaluated: {died.message}", died.hint) from died

    def _ask(self, task_type: TaskType, data: TaskData, checkpoint: Path, seed: bytes) -> Evaluated:
        process = self._started()
        self._asked += 1
        question = Question(
            number=self._asked, task_type=task_type, data=data, checkpoint=str(checkpoint), seed=seed.hex()
        )
        try:
            line = process.ask(question.model_dump_json().encode(), self._within_s)
        except EvaluatorDied:
            self._process = None
            raise
        return self._accepted(line)

    def _started(self) -> EvaluatorProcess:
        process = self.warm_up()
        if not self._ready:
            try:
                process.hear(START_S)
            except EvaluatorDied as died:
                self._process = None
                raise EvaluatorCrashed(f"the evaluator did not start: {died.message}", "look at that node") from died
            self._ready = True
        return process

    def _accepted(self, line: bytes) -> Evaluated:
        """The result in an answer; the process is ended when it said what it cannot have computed, or broke off."""
        try:
            reply = Reply.model_validate_json(line)
        except ValidationError as error:
            self._end()
            raise EvaluatorDied(f"it answered with what is no answer ({error.error_count()} faults)") from error
        if reply.number != self._asked:
            self._end()
            raise EvaluatorDied(f"it answered question {reply.number} instead of {self._asked}")
        if reply.result is None:
            raise self._troubled(reply)
        if wrong := contradiction(reply.result):
            self._end()
            raise EvaluatorDied(f"it answered with what cannot be: {wrong}")
        return reply.result

    def _troubled(self, reply: Reply) -> EvaluatorCrashed:
        trouble = reply.trouble
        message, hint = (trouble.message, trouble.hint) if trouble else ("", "")
        if not trouble or not trouble.broke_off:
            return EvaluatorCrashed(message, hint)
        self._end()
        return EvaluatorDied(message, hint)

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


def evaluator(settings: Settings, on_gpu: bool = False) -> SandboxedEvaluator:
    """The evaluator of a tournament on this node, by its settings; nothing of it runs yet.

    `on_gpu` it computes on the GPU that this process sees, unless GPUs are only counted. What the settings keep in the
    folder of task data is not seen by it, but for tasks and checkpoints.
    """
    checkouts, artifacts, carried = checkouts_folder(settings), Path(settings.artifacts_at), carried_folder(settings)
    inside = "://" not in settings.artifacts_at and artifacts.is_relative_to(settings.data)
    for folder in (settings.data, checkouts, carried, *((artifacts,) if inside else ())):
        folder.mkdir(parents=True, exist_ok=True)
    reading = Reading((settings.data, carried), (artifacts,) if inside else (), _mem_bytes(settings))
    within_s = settings.evaluation.deadline_hours * 3600
    device: Device = "cuda" if on_gpu and settings.sandbox.devices == "nvidia" else "cpu"
    return SandboxedEvaluator(settings.data, reading, within_s, is_isolated(settings), settings.rules, device)


@contextlib.contextmanager
def shut_in_evaluator(readable: Sequence[Path]) -> Generator[EvaluatorSandbox]:
    """A context: a sandbox for one evaluation of somebody's own, which reads these files and folders."""
    reading = Reading(tuple(readable), (), _all_but(Sandbox().mem_reserve_gib))
    sandbox = EvaluatorSandbox(reading, isolated=True)
    try:
        yield sandbox
    finally:
        sandbox.close()


def is_isolated(settings: Settings) -> bool:
    """Whether checkpoints are read in a sandbox: always those of strangers, whose code runs in containers."""
    kind = settings.sandbox.kind
    return kind in ("docker", "bubblewrap") or (kind == "auto" and not bubblewrap.why_not())


def check_evaluator(settings: Settings) -> None:
    """Refuse a tournament whose checkpoints nobody could read on this machine; raises `ConfigError`."""
    if not is_isolated(settings):
        return
    try:
        need_isolation()
    except EngineDown as down:
        raise ConfigError(down.message, down.hint) from down


def _mem_bytes(settings: Settings) -> int:
    """What one evaluation may take: as configured, else all of the machine's but its reserve."""
    chosen = settings.evaluation.mem_gib
    return int(chosen * GIB) if chosen else _all_but(settings.sandbox.mem_reserve_gib)


def _all_but(reserve_gib: float) -> int:
    """The machine's memory less the reserve, bytes; what torch takes at least."""
    return int(max(machine_memory() / GIB - reserve_gib, LEAST_MEM_GIB) * GIB)
