"""What runs in Ray's workers: each function does one command's work and returns facts or outcomes, never raising.

Knows no Ray: `dispatch` makes tasks of these. A fault becomes data here, with its blame.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from tourney_ray.config import Settings
from tourney_ray.core.commands import AskMiners, PrepareTask
from tourney_ray.core.events import ImageBuilt
from tourney_ray.core.models import (
    Answer,
    Blame,
    Entrant,
    Failed,
    Miner,
    Refusal,
    TaskData,
    TaskType,
    TournamentType,
    TrainingOutcome,
    TrainingSpec,
)
from tourney_ray.core.tasks import TaskRequest
from tourney_ray.driver import containers, stage as staging
from tourney_ray.driver.folders import artifact_store, repo_store
from tourney_ray.driver.stage import Carrier, Staged, tree_path
from tourney_ray.driver.task_source import task_source
from tourney_ray.effects import kept_elsewhere
from tourney_ray.effects.balances import TransfersFile
from tourney_ray.effects.carried import sent
from tourney_ray.effects.engine.connection import connect
from tourney_ray.effects.engine.reaper import Leased
from tourney_ray.effects.engine.transfer import saved_image
from tourney_ray.effects.findings import explain
from tourney_ray.effects.kept_elsewhere import have_objects
from tourney_ray.effects.miners import MinersFile, NoOffer, Offer, ask_miners
from tourney_ray.effects.ports import News, Place
from tourney_ray.effects.ran import Ran
from tourney_ray.effects.sandbox import SandboxTrainer
from tourney_ray.effects.vet_licence import LicencePolicy
from tourney_ray.effects.vetting import vet
from tourney_ray.errors import (
    ConfigError,
    InputsMissing,
    MinerFault,
    PlatformFault,
    RepoRejected,
    TourneyError,
)
from tourney_ray.evaluation.kinds import evaluated_types
from tourney_ray.samples.repositories import sample_tree_hashes

T = TypeVar("T")

VETTED_AT_ONCE = 8


def check_playable(settings: Settings) -> None:
    """Refuse a tournament whose rules can draw a task that this version cannot evaluate, before anyone pays for it.

    Raises `ConfigError` naming the task types, or the extra that is not installed.
    """
    rules = settings.rules
    drawn = {kind for kind, share in rules.knockout_task_shares.items() if share > 0}
    text = {rules.group_task, *drawn, *rules.boss_tasks}
    playable = {TournamentType.TEXT: text, TournamentType.IMAGE: {TaskType.IMAGE}}
    wanted = {kind for tournament_type in settings.types for kind in playable[tournament_type]}
    missing = sorted(wanted - evaluated_types())
    if find_spec("torch") is None:
        raise ConfigError("torch is not installed, so nothing could be evaluated", "pip install 'tourney-ray[eval]'")
    if missing:
        raise ConfigError(
            f"the rules draw {', '.join(missing)}, which this version cannot evaluate",
            "leave them out of types, rules.group_task, rules.knockout_task_shares and rules.boss_tasks",
        )


def check_registry(settings: Settings) -> None:
    """Read the operator's files once before anything starts; raises `ConfigError` for one that cannot be read.

    Or for a place of artifacts that nobody knows.
    """
    licence_policy(settings)
    artifact_store(settings)
    MinersFile(settings.registry.miners).miners()
    TransfersFile(settings.registry.transfers).transfers()


def ask_and_vet(settings: Settings, command: AskMiners) -> list[Answer]:
    """The answers of all miners that are not in yet, their repositories fetched and vetted, in the registry's order.

    Raises `TourneyError` when the registry itself cannot be read.
    """
    miners = [m for m in MinersFile(settings.registry.miners).miners() if m.hotkey not in command.known]
    deadline_s = settings.registry.answer_deadline_s
    offers = asyncio.run(ask_miners(miners, command.tournament_type, deadline_s=deadline_s))
    with ThreadPoolExecutor(VETTED_AT_ONCE) as pool:
        return list(pool.map(lambda m: _answer(settings, command.tournament_type, m, offers[m.hotkey]), miners))


def vet_repository(
    settings: Settings, tournament_type: TournamentType, hotkey: str, coldkey: str, repo: str, ref: str
) -> Entrant:
    """The repository at `ref`, fetched and accepted; raises `RepoRejected` with all findings in one line."""
    fetched = repo_store(settings).fetch(repo, ref)
    findings = vet(fetched.path, tournament_type, licence_policy(settings))
    if findings:
        raise RepoRejected(f"{repo} at {fetched.commit[:12]} was refused: {explain(findings)}")
    if settings.sandbox.kind != "docker" and fetched.tree_hash not in sample_tree_hashes():
        raise RepoRejected(f"{repo} is not a bundled sample: without containers this platform runs no stranger's code")
    return Entrant(hotkey=hotkey, coldkey=coldkey, repo=repo, commit=fetched.commit, tree_hash=fetched.tree_hash)


def licence_policy(settings: Settings) -> LicencePolicy | None:
    """The texts that every repository has to carry (RULES §2), None where none are asked for.

    Raises `ConfigError` when a text cannot be read: without it nobody could be vetted.
    """
    licence, notice = settings.repositories.licence, settings.repositories.notice
    if licence is None or notice is None:
        return None
    try:
        return LicencePolicy(licence=licence.read_text(encoding="utf-8"), notice=notice.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the licence {licence} or the notice {notice} cannot be read: {error}", "name two text files in UTF-8"
        ) from error


def prepare(settings: Settings, command: PrepareTask, request: TaskRequest) -> TaskData:
    """Model, training rows and test rows of a task; raises `TourneyError` when they cannot be made."""
    return task_source(settings).prepare(command.task_id, request.task_type, request.seed, request.model_range_b)


def stage(settings: Settings, spec: TrainingSpec, known: ImageBuilt | None, carrier: Carrier) -> Staged | Failed:
    """Have an attempt's image and data on this node, before it holds GPUs there; `known` is its entrant's image."""
    return _as_data(lambda: staging.stage(settings, spec, known, carrier))


def sent_files(settings: Settings, spec: TrainingSpec, paths: Sequence[str]) -> Iterator[bytes]:
    """These of the operator's files that an attempt is made from, as one tar, with paths below the state's folder.

    Raises `PlatformFault` where one is not there.
    """
    tree = tree_path(spec.tree_hash)
    if tree in paths and not (settings.state / tree).exists():
        _frozen_tree(settings, spec)
    yield from sent(settings.state, paths)


def sent_data(settings: Settings, paths: Sequence[str]) -> Iterator[bytes]:
    """These of the operator's models and test sets, as one tar, with paths below the state's folder.

    For evaluators alone: no trainer may ever see a test set. Raises `PlatformFault` where one is not there.
    """
    yield from sent(settings.state, paths)


def sent_image(settings: Settings, image_id: str) -> Iterator[bytes]:
    """An image that this node's engine has, in pieces; raises `PlatformFault`, `InputsMissing` where it has not."""
    with contextlib.closing(connect(settings.sandbox.host)) as engine:
        yield from saved_image(engine, image_id)


def sent_objects(settings: Settings, record: str) -> Iterator[bytes]:
    """What an attempt left in this node's store, in pieces, by its record; raises `PlatformFault`."""
    yield from kept_elsewhere.sent_objects(artifact_store(settings), record)


def bring(settings: Settings, record: str, send: Callable[[], Iterator[bytes]]) -> None:
    """Have in this node's store what an attempt left elsewhere; raises `PlatformFault`."""
    have_objects(artifact_store(settings), record, send)


def train(settings: Settings, spec: TrainingSpec, place: Place, news: News) -> TrainingOutcome | Ran:
    """Take over the attempt if it was started before, else run it to its end; `Ran` where its output still waits."""
    return _as_data(lambda: _trained(settings, spec, place, news))


def collect(settings: Settings, spec: TrainingSpec, ran: Ran) -> TrainingOutcome:
    """The outcome of an attempt whose container is gone, with what it left in the operator's store."""
    return _as_data(lambda: containers.collect(settings, spec, ran))


def _trained(settings: Settings, spec: TrainingSpec, place: Place, news: News) -> TrainingOutcome | Ran:
    if settings.sandbox.kind == "docker":
        return containers.train(settings, spec, place, news)
    trainer = sandbox(settings)
    return trainer.adopt(spec) or trainer.train(spec, _frozen_tree(settings, spec), news)


def _as_data(call: Callable[[], T]) -> T | Failed:
    """What the call returns; a fault as an outcome, with its blame."""
    try:
        return call()
    except MinerFault as fault:
        return Failed(blame=Blame.MINER, kind=fault.kind, reason=fault.message)
    except TourneyError as fault:
        return Failed(blame=Blame.PLATFORM, kind=fault.kind, reason=fault.message)
    except Exception as error:  # noqa: BLE001 - the end of a task's body: whatever is left is the platform's fault
        return Failed(blame=Blame.PLATFORM, kind="defect", reason=f"{type(error).__name__}: {error}")


def release(settings: Settings, spec: TrainingSpec) -> str:
    """How it is known that nothing of an attempt runs on this node, nor ever will; what still ran is ended.

    Raises `PlatformFault` when that cannot be made sure of.
    """
    if settings.sandbox.kind == "docker":
        return containers.release(settings, spec)
    return sandbox(settings).release(spec)


def reap(settings: Settings, leased: Leased) -> list[str]:
    """Remove what is left on this node of attempts that hold no GPUs any more; their ids.

    `leased` says which of some attempts hold GPUs at this moment. Raises `PlatformFault`.
    """
    return containers.reap_node(settings, leased) if settings.sandbox.kind == "docker" else []


def sandbox(settings: Settings) -> SandboxTrainer:
    """This node's trainer without containers."""
    kind = settings.sandbox.kind
    if kind == "docker":
        raise ConfigError("this tournament is held in containers", "set sandbox.kind for one without")
    store = artifact_store(settings)
    return SandboxTrainer(settings.data, settings.state / "work", sample_tree_hashes(), kind, store=store)


def sandbox_warning(settings: Settings) -> str:
    """One line that whoever starts trainings has to read; empty when they are isolated."""
    return "" if settings.sandbox.kind == "docker" else sandbox(settings).warning


def utc_now() -> datetime:
    """The current moment."""
    return datetime.now(UTC)


def _answer(settings: Settings, tournament_type: TournamentType, miner: Miner, offer: Offer | NoOffer) -> Answer:
    if isinstance(offer, NoOffer):
        return Refusal(hotkey=miner.hotkey, reason=offer.reason)
    try:
        return vet_repository(settings, tournament_type, miner.hotkey, miner.coldkey, offer.repo, offer.ref)
    except RepoRejected as rejected:
        return Refusal(hotkey=miner.hotkey, reason=rejected.message)
    except PlatformFault as fault:
        return Refusal(
            hotkey=miner.hotkey, reason=f"not the miner's fault, asked again in the next pass: {fault.message}"
        )


def _frozen_tree(settings: Settings, spec: TrainingSpec) -> Path:
    """The very tree that was vetted, fetched again where this node does not have it."""
    try:
        fetched = repo_store(settings).fetch(spec.repo, spec.commit)
    except RepoRejected as gone:
        raise InputsMissing(f"the vetted tree is gone: {gone.message}", "restore the repository or its cache") from gone
    if fetched.tree_hash != spec.tree_hash:
        raise InputsMissing(f"{spec.repo} at {spec.commit} holds tree {fetched.tree_hash}, vetted was {spec.tree_hash}")
    return fetched.path
