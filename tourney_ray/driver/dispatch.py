"""Commands become Ray tasks, and what Ray says of them becomes facts.

Every task has `max_retries=0`: what is done again, and at whose cost, is decided by the rules and not by Ray. Trainings
are pinned to the node the plan chose and hold `num_gpus` and the custom resource there, as a second lock on the GPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import ActorDiedError, RayError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tourney_ray.config import Settings
from tourney_ray.core import events as e
from tourney_ray.core.commands import (
    Announce,
    AskMiners,
    Command,
    Evaluate,
    PrepareTask,
    Release,
    RevealDrawSeed,
    RevealSecretSeed,
    Train,
)
from tourney_ray.core.draw import commitment
from tourney_ray.core.ids import generate_tournament_id
from tourney_ray.core.leases import Cluster
from tourney_ray.core.models import Blame, Failed, GpuRequirement, TrainingOutcome
from tourney_ray.core.nodes import Node
from tourney_ray.core.preparation import prepared_from_history, task_prepared, task_request
from tourney_ray.core.state import State
from tourney_ray.core.tasks import task_seed
from tourney_ray.driver import work
from tourney_ray.driver.faults import fault
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.outcomes import (
    attempt_ended,
    evaluation_failed,
    lease_ended,
    preparation_failed,
    train_ended,
)
from tourney_ray.driver.seeds import SeedVault
from tourney_ray.effects.balances import TransfersFile
from tourney_ray.effects.ports import Place
from tourney_ray.effects.ran import Ran
from tourney_ray.errors import NodeLost, TourneyError

log = logging.getLogger(__name__)

GPU_TYPES = {requirement.gpu_type for requirement in GpuRequirement}
NODES_FRESH = timedelta(seconds=1)
"""How old the list of nodes may be."""

ON_THE_HEAD = {"node:__internal_head__": 0.001}
"""Resource that ties the driver, and work on its files, to the node where they lie."""

WATCHERS = 5
"""How many watchers in a row may die on one attempt; after that its node counts as broken."""

RETRY_S = 5.0
"""Pause before work that has no failure fact of its own (asking, announcing) is planned again."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Tells the driver, by its name, how an attempt goes on; pickled into the task. The `News` of its trainer.

    It sends and does not wait: the training goes on whether or not a driver is there to listen.
    """

    driver: str
    namespace: str
    command_id: str

    def running(self, gpu_indices: tuple[int, ...], image_id: str) -> None:
        """Its code runs."""
        with contextlib.suppress(ValueError):
            ray.get_actor(self.driver, self.namespace).progress.remote(self.command_id, gpu_indices, image_id)

    def said(self, tail: str) -> None:
        """The end of its log."""
        with contextlib.suppress(ValueError):
            ray.get_actor(self.driver, self.namespace).said.remote(self.command_id, tail)


def _train(settings: Settings, command: Train, gpus: int, reporter: Reporter) -> TrainingOutcome | Ran:
    """In the worker: `gpus` are all of the node's, of the training's type."""
    indices = tuple(int(index) for index in ray.get_gpu_ids())
    place = Place(driver=settings.name, node=command.node, gpus=gpus, indices=indices)
    return work.train(settings, command.spec, place, reporter)


class RayDispatcher:
    """Runs commands on the Ray cluster that this process is connected to."""

    def __init__(
        self, settings: Settings, state: Callable[[], State], report: Callable[[Outcome], None], reporter_namespace: str
    ) -> None:
        self._settings = settings
        self._state = state
        self._report = report
        self._namespace = reporter_namespace
        self._vault = SeedVault(settings.state / "seeds", settings.seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self.troubles: dict[str, str] = {}
        """Work that failed and is tried again without a fact of its own, and why."""
        self.on_defect: Callable[[BaseException], None] = log_defect
        """Told of any error that is neither Ray's nor foreseen: the command's outcome will never come."""
        self._evaluator: Any = None
        self._nodes: tuple[Node, ...] = ()
        self._nodes_at = work.utc_now() - 2 * NODES_FRESH

    def cluster(self) -> Cluster:
        """The live nodes with their GPUs, at most a second old."""
        now = work.utc_now()
        if now - self._nodes_at >= NODES_FRESH:
            self._nodes = tuple(
                Node(n["NodeID"], {k: int(v) for k, v in n["Resources"].items() if k in GPU_TYPES and v >= 1})
                for n in ray.nodes()
                if n["Alive"]
            )
            self._nodes_at = now
        return Cluster(self._nodes, self._settings.cluster.max_trainers)

    def announce(self, demand: Sequence[GpuRequirement]) -> None:
        """Tell Ray's autoscaler which trainings run or wait: it cannot see the driver's own queue."""
        request_resources(bundles=[{d.gpu_type: d.gpus, "GPU": d.gpus} for d in demand])

    def dispatch(self, command: Command) -> None:
        """Start the command; its outcome is reported on the event loop of the caller."""
        task = asyncio.get_running_loop().create_task(self._run(command), name=command.command_id)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.on_defect(error)

    def warm_up(self) -> None:
        """Start the evaluator now, so that its imports are done when the first checkpoint arrives."""
        if self._evaluator is None:
            options: dict[str, Any] = {
                "num_cpus": 0,
                "max_restarts": -1,
                "max_task_retries": 0,
                "resources": ON_THE_HEAD,
            }
            self._evaluator = ray.remote(work.EvaluatorWorker).options(**options).remote(self._settings)

    async def _run(self, command: Command) -> None:
        try:
            facts = await self._facts(command)
            self.troubles.pop(command.command_id, None)
        except (RayError, TourneyError) as error:
            facts = await self._fault(command, error)
        self._report(Outcome(command.command_id, facts))

    async def _facts(self, command: Command) -> tuple[e.Fact, ...]:  # noqa: PLR0911 - a line per command
        match command:
            case Announce():
                return await self._announce(command)
            case AskMiners():
                return await self._ask(command)
            case RevealDrawSeed():
                seeds = self._vault.read(self._state().tournaments[command.tournament_id].draw_commitment)
                return (e.TournamentActivated(tournament_id=command.tournament_id, draw_seed=seeds.draw),)
            case RevealSecretSeed():
                return (e.SecretRevealed(tournament_id=command.tournament_id, secret_seed=self._secret(command)),)
            case PrepareTask():
                return await self._prepare(command)
            case Train():
                return await self._train(command)
            case Release():
                return await self._release(command)
            case Evaluate():
                return await self._evaluate(command)

    async def _announce(self, command: Announce) -> tuple[e.Fact, ...]:
        champion, because = command.champion, "the champion of the tournament before defends"
        base = self._settings.base_contestants.get(command.tournament_type)
        if champion is None:
            because = "nobody holds the title yet" + (": the base contestant defends" if base else "")
        if champion is None and base is not None:
            vet = _task(work.vet_repository, f"vet {base.hotkey}")
            champion = await vet.remote(
                self._settings, command.tournament_type, base.hotkey, base.coldkey, base.repo, base.commit
            )
        seeds = self._vault.create(command.number)
        draw = commitment(seeds.draw)
        created = e.TournamentCreated(
            tournament_id=generate_tournament_id(command.tournament_type, draw, work.utc_now()),
            tournament_type=command.tournament_type,
            rules=command.rules,
            draw_commitment=draw,
            secret_commitment=commitment(seeds.secret),
            champion=champion,
            champion_wins=command.champion_wins,
            because=because,
        )
        return (created,)

    async def _ask(self, command: AskMiners) -> tuple[e.Fact, ...]:
        transfers = TransfersFile(self._settings.registry.transfers).transfers()
        answers = await _task(work.ask_and_vet, command.command_id).remote(self._settings, command)
        fresh = [t for t in transfers if t.transfer_id not in self._state().transfers]
        passed = e.RegistrationPassed(
            tournament_id=command.tournament_id, number=command.number, answers=tuple(answers)
        )
        return (*fresh, passed)

    async def _prepare(self, command: PrepareTask) -> tuple[e.Fact, ...]:
        secret, t = self._secret(command), self._state().tournaments[command.tournament_id]
        if repeated := prepared_from_history(self._state(), command, secret):
            return (repeated,)
        request = task_request(t, command, secret)
        data = await _task(work.prepare, command.command_id).remote(self._settings, command, request)
        return (task_prepared(t, command, request.task_type, data, secret),)

    async def _train(self, command: Train) -> tuple[e.Fact, ...]:
        ended = await self._watch(command)
        if not isinstance(ended, Ran):
            return train_ended(command, ended)
        gone = lease_ended(command, "its container is gone")
        self._report(Outcome(command.command_id, (gone,), done=False))
        collect = _on_node(work.collect, f"collect/{command.spec.attempt_id}", command.node)
        return gone, attempt_ended(command, await collect.remote(self._settings, command.spec, ended))

    async def _watch(self, command: Train) -> TrainingOutcome | Ran:
        """What the watcher says at last. Where one dies and its node lives, another takes over."""
        node = self._state().nodes.get(command.node)
        if node is None:
            raise NodeLost("its node is not there any more")
        reporter = Reporter(self._settings.name, self._namespace, command.command_id)
        arguments = self._settings, command, node.gpus[command.spec.gpu_requirement.gpu_type], reporter
        for _ in range(WATCHERS - 1):
            with contextlib.suppress(WorkerCrashedError):
                return await self._watcher(command).remote(*arguments)
            log.warning("the watcher of %s died: another one takes over", command.spec.attempt_id)
        return await self._watcher(command).remote(*arguments)

    def _watcher(self, command: Train) -> Any:
        return _on_node(_train, command.command_id, command.node, **self._held(command))

    def _held(self, command: Train) -> dict[str, Any]:
        """What the watcher holds in Ray: nothing, once the lease has ended and only the outcome is missing."""
        requirement = command.spec.gpu_requirement
        if command.spec.attempt_id not in self._state().leases:
            return {}
        return {"num_gpus": requirement.gpus, "resources": {requirement.gpu_type: requirement.gpus}}

    async def _release(self, command: Release) -> tuple[e.Fact, ...]:
        task = _on_node(work.release, command.command_id, command.node)
        return (lease_ended(command, await task.remote(self._settings, command.spec)),)

    async def _evaluate(self, command: Evaluate) -> tuple[e.Fact, ...]:
        self.warm_up()
        task = self._state().tournaments[command.tournament_id].tasks[command.task_id]
        seed = task_seed(self._secret(command), "evaluation", task.place)
        try:
            result = await self._evaluator.evaluate.remote(command, seed)
        except ActorDiedError:
            self._evaluator = None
            raise
        if isinstance(result, str):
            return (evaluation_failed(command, result),)
        evaluated = e.CheckpointEvaluated(
            tournament_id=command.tournament_id,
            task_id=command.task_id,
            hotkey=command.hotkey,
            number=command.number,
            result=result,
        )
        return (evaluated,)

    async def _fault(self, command: Command, error: RayError | TourneyError) -> tuple[e.Fact, ...]:
        """The fact that tells of the platform's fault; a pause where there is none."""
        kind, reason = fault(error)
        match command:
            case Train():
                return (attempt_ended(command, Failed(blame=Blame.PLATFORM, kind=kind, reason=reason)),)
            case Evaluate():
                return (evaluation_failed(command, reason),)
            case PrepareTask():
                return (preparation_failed(command, reason),)
            case _:
                self.troubles[command.command_id] = f"{reason}; tried again every {RETRY_S:g} s"
                await asyncio.sleep(RETRY_S)
                return ()

    def _secret(self, command: PrepareTask | Evaluate | RevealSecretSeed) -> str:
        return self._vault.read(self._state().tournaments[command.tournament_id].draw_commitment).secret


def log_defect(error: BaseException) -> None:
    """Write the error to the log."""
    log.error("a command broke off", exc_info=error)


REMOTE: dict[Callable[..., Any], Any] = {
    function: ray.remote(function)
    for function in (work.vet_repository, work.ask_and_vet, work.prepare, work.collect, work.release, _train)
}
"""Each function as a Ray task, made once: a new one would be shipped to the workers at every call."""


def _on_node(function: Callable[..., Any], name: str, node: str, **held: Any) -> Any:
    """The task on that very node, or nowhere."""
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return REMOTE[function].options(name=name, num_cpus=0, max_retries=0, scheduling_strategy=where, **held)


def _task(function: Callable[..., Any], name: str) -> Any:
    return REMOTE[function].options(name=name, num_cpus=0, max_retries=0, resources=ON_THE_HEAD)
