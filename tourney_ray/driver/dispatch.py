"""Commands become Ray tasks, and what Ray says of them becomes facts.

Every task has `max_retries=0`: what is done again, and at whose cost, is decided by the rules and not by Ray. Trainings
are pinned to the node the plan chose and hold `num_gpus` and the custom resource there, as a second lock on the GPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from ray.exceptions import RayError, WorkerCrashedError

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
    Stage,
    Train,
)
from tourney_ray.core.draw import commitment
from tourney_ray.core.ids import generate_tournament_id
from tourney_ray.core.leases import Cluster, Seat
from tourney_ray.core.models import Blame, Failed, GpuRequirement, TaskData, TrainingOutcome
from tourney_ray.core.state import State, Tournament
from tourney_ray.core.tasks import TaskRequest, task_seed
from tourney_ray.driver import work
from tourney_ray.driver.evaluators import Evaluators
from tourney_ray.driver.faults import fault
from tourney_ray.driver.gpu_evaluators import GpuEvaluators
from tourney_ray.driver.loop import Outcome
from tourney_ray.driver.outcomes import (
    attempt_ended,
    evaluation_failed,
    evaluation_told,
    lease_ended,
    preparation_failed,
    train_ended,
)
from tourney_ray.driver.preparing import Preparing
from tourney_ray.driver.reaping import Reaping
from tourney_ray.driver.seeds import SeedVault
from tourney_ray.driver.stagings import Stagings
from tourney_ray.driver.surroundings import Surroundings
from tourney_ray.driver.tasks import Reporter, bring, on_head, on_node, train
from tourney_ray.effects.balances import TransfersFile
from tourney_ray.effects.ran import Ran
from tourney_ray.errors import EngineDown, NodeLost, TourneyError

log = logging.getLogger(__name__)

WATCHERS = 5
"""How many watchers in a row may die on one attempt; after that its node counts as broken."""

RETRY_S = 5.0
"""Pause before work that has no failure fact of its own is planned again."""


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
        self._evaluators = Evaluators(settings, state)
        self._gpu_evaluators = GpuEvaluators(settings)
        self._stagings = Stagings(settings, state)
        self._reaping = Reaping(settings, reporter_namespace, self._begin)
        self._preparing = Preparing(state, self._secret_of, self._make)
        self._surroundings = Surroundings(settings, lambda: state().leases.values(), self._stagings.unfit, self._begin)

    def cluster(self) -> Cluster:
        """The live nodes with their GPUs, what is staged on them, and what could be added."""
        around = self._surroundings
        if found := around.look():
            self._evaluators.see(found)
            self._gpu_evaluators.see(found)
            self._reaping.look(around.nodes)
            self._stagings.forget()
        return Cluster(
            around.nodes,
            self._settings.cluster.max_trainers,
            staged=self._stagings.there(),
            unfit=self._stagings.unfit(),
            launchable=around.launchable(),
            seats={} if self._settings.evaluation.gpu else None,
            unfit_to_evaluate={*self._stagings.unfit(), *self._gpu_evaluators.unfit()},
        )

    def announce(self, demand: Sequence[GpuRequirement], seats: Sequence[Seat]) -> None:
        """Tell Ray's autoscaler, soon, what runs or waits; `seats` are the GPUs of evaluations."""
        self._surroundings.announce(demand, seats)

    async def withdraw(self) -> None:
        """Ask the autoscaler for nothing any more; returns once it has been told."""
        await self._surroundings.withdraw()

    def problems(self) -> dict[str, str]:
        """What no waiting will mend, by node or need."""
        return self._surroundings.problems()

    def named(self, reasons: Mapping[str, str]) -> dict[str, str]:
        """The same reasons with the hosts of the nodes that they name."""
        return self._surroundings.named(reasons)

    def dispatch(self, command: Command) -> None:
        """Start the command; its outcome is reported on the event loop of the caller."""
        if isinstance(command, Train):
            self._preparing.look_ahead(command.tournament_id)
        self._begin(self._run(command), command.command_id)

    def _begin(self, work_to_do: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work_to_do, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.on_defect(error)

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
                return await self._preparing.facts(command)
            case Stage():
                return await self._stagings.run(command)
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
            vet = on_head(work.vet_repository, f"vet {base.hotkey}")
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
        answers = await on_head(work.ask_and_vet, command.command_id).remote(self._settings, command)
        fresh = [t for t in transfers if t.transfer_id not in self._state().transfers]
        passed = e.RegistrationPassed(
            tournament_id=command.tournament_id, number=command.number, answers=tuple(answers)
        )
        return (*fresh, passed)

    def _make(self, command: PrepareTask, request: TaskRequest) -> Awaitable[TaskData]:
        return on_head(work.prepare, command.command_id).remote(self._settings, command, request)

    async def _train(self, command: Train) -> tuple[e.Fact, ...]:
        ended = await self._watch(command)
        if not isinstance(ended, Ran):
            await self._bring(command.node, ended)
            if isinstance(ended, Failed):
                self._stagings.doubt(command, ended)
            return train_ended(command, ended)
        gone = lease_ended(command, "its container is gone")
        self._report(Outcome(command.command_id, (gone,), done=False))
        collect = on_node(work.collect, f"collect/{command.spec.attempt_id}", command.node)
        outcome: TrainingOutcome = await collect.remote(self._settings, command.spec, ended)
        await self._bring(command.node, outcome)
        return gone, attempt_ended(command, outcome)

    async def _bring(self, node: str, outcome: TrainingOutcome) -> None:
        """Have in the operator's store what an attempt left on another machine."""
        if outcome.provenance and node in self._surroundings.elsewhere:
            await on_head(bring, f"bring/{outcome.provenance}").remote(self._settings, outcome.provenance, node)

    async def _watch(self, command: Train) -> TrainingOutcome | Ran:
        """What the watcher says at last. Where one dies and its node lives, another takes over."""
        node = self._state().nodes.get(command.node)
        if node is None:
            raise NodeLost("its node is not there any more")
        self._make_ready(command)
        reporter = Reporter(self._settings.name, self._namespace, command.command_id)
        arguments = self._settings, command, node.gpus[command.spec.gpu_requirement.gpu_type], reporter
        for _ in range(WATCHERS - 1):
            with contextlib.suppress(WorkerCrashedError):
                return await self._watcher(command).remote(*arguments)
            log.warning("the watcher of %s died: another one takes over", command.spec.attempt_id)
        return await self._watcher(command).remote(*arguments)

    def _make_ready(self, command: Train) -> None:
        """Have an evaluator that is warm by its end; where evaluators hold GPUs, have the training's free."""
        if self._settings.evaluation.gpu:
            needs = command.spec.gpu_requirement
            self._gpu_evaluators.give_way((command.node, needs.gpu_type), needs.gpus)
        else:
            self._evaluators.warm_up(command.node)

    def _watcher(self, command: Train) -> Any:
        return on_node(train, command.command_id, command.node, **self._held(command))

    def _held(self, command: Train) -> dict[str, Any]:
        """What the watcher holds in Ray: nothing, once the lease has ended and only the outcome is missing."""
        needs = command.spec.gpu_requirement
        held = {"num_gpus": needs.gpus, "resources": {needs.gpu_type: needs.gpus}}
        return held if command.spec.attempt_id in self._state().leases else {}

    async def _release(self, command: Release) -> tuple[e.Fact, ...]:
        task = on_node(work.release, command.command_id, command.node)
        return (lease_ended(command, await task.remote(self._settings, command.spec)),)

    async def _evaluate(self, command: Evaluate) -> tuple[e.Fact, ...]:
        task = self._state().tournaments[command.tournament_id].tasks[command.task_id]
        seed = task_seed(self._secret(command), "evaluation", task.place)
        if command.node is None:
            said = await self._evaluators.evaluate(command, seed, self._stagings.unfit())
        else:
            said = await self._gpu_evaluators.evaluate(command, seed)
        return (evaluation_told(command, said),)

    async def _fault(self, command: Command, error: RayError | TourneyError) -> tuple[e.Fact, ...]:
        """The fact that tells of the platform's fault; a pause where there is none."""
        kind, reason = fault(error)
        match command:
            case Train():
                failed = Failed(blame=Blame.PLATFORM, kind=kind, reason=reason)
                self._stagings.doubt(command, failed)
                return (attempt_ended(command, failed),)
            case Evaluate() if kind != EngineDown("").kind:
                return (evaluation_failed(command, reason),)
            case PrepareTask():
                return (preparation_failed(command, reason),)
            case _:
                self.troubles[command.command_id] = f"{reason}; tried again every {RETRY_S:g} s"
                await asyncio.sleep(RETRY_S)
                return ()

    def _secret(self, command: Evaluate | RevealSecretSeed) -> str:
        return self._secret_of(self._state().tournaments[command.tournament_id])

    def _secret_of(self, t: Tournament) -> str:
        return self._vault.read(t.draw_commitment).secret


def log_defect(error: BaseException) -> None:
    """Write the error to the log."""
    log.error("a command broke off", exc_info=error)
