"""Staging on real engines: what a node builds, what it gets from others, and what none of them has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

import pytest

from tests.builders_training import tiny_task_data, training_spec
from tests.docker.bench import ROWS
from tests.docker.engine import PrivateEngine, private_engine
from tests.docker.troubled import TOO_OLD, answering, as_nobody
from tourney_ray.config import Registry, Sandbox, Settings
from tourney_ray.core.events import ImageBuilt
from tourney_ray.core.models import Blame, Failed, TrainingSpec
from tourney_ray.driver import work
from tourney_ray.driver.stage import Staged, known_image, task_cache, tree_path
from tourney_ray.effects import contract
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.engine import builder
from tourney_ray.effects.engine.connection import Engine, connect
from tourney_ray.effects.engine.imports import find_named
from tourney_ray.effects.engine.transfer import saved_image
from tourney_ray.effects.manifest import digest_of
from tourney_ray.effects.provenance import load
from tourney_ray.errors import EngineDown, InputsMissing, PlatformFault, StorageUnavailable
from tourney_ray.samples.base_image import ensure_base_image

GOOD = "FROM tourney/tiny-base\nCOPY train.py /workspace/train.py\n"
BROKEN = "FROM tourney/tiny-base\nRUN echo I am step two && exit 7\n"


@dataclass
class Neighbours:
    """What the other nodes have, and what this one was sent."""

    images: Callable[[str], Iterator[bytes] | None] = lambda image_id: None
    head: Settings | None = None
    spec: TrainingSpec | None = None
    asked: list[str] = field(default_factory=list[str])
    sends_files: Event = field(default_factory=Event)
    """Set once it was asked for any."""

    def image(self, image_id: str) -> Iterator[bytes] | None:
        self.asked.append(image_id)
        return self.images(image_id)

    def files(self, paths: Sequence[str]) -> Iterator[bytes]:
        assert self.head
        assert self.spec
        self.asked += paths
        self.sends_files.set()
        return work.sent_files(self.head, self.spec, paths)


@dataclass
class Node:
    """A node's folder, and an attempt that is to run there."""

    settings: Settings
    spec: TrainingSpec
    others: Neighbours

    def stage(self, known: ImageBuilt | None = None) -> Staged:
        staged = work.stage(self.settings, self.spec, known, self.others)
        assert isinstance(staged, Staged), staged
        return staged

    def fail(self) -> Failed:
        failed = work.stage(self.settings, self.spec, None, self.others)
        assert isinstance(failed, Failed)
        return failed

    def fault(self, kind: type[PlatformFault]) -> str:
        """Why nothing can be staged, on one line; the platform is to blame, with a fault of that kind."""
        failed = self.fail()
        assert (failed.blame, failed.kind) == (Blame.PLATFORM, kind("").kind), failed
        assert failed.reason.count("\n") == 0
        return failed.reason

    def at(self, host: str) -> Node:
        """The same node with another engine."""
        sandbox = self.settings.sandbox.model_copy(update={"host": host})
        return replace(self, settings=self.settings.model_copy(update={"sandbox": sandbox}))

    def give(self, dockerfile: str = GOOD) -> None:
        """Put the operator's files where the head has them."""
        tree = self.settings.state / tree_path(self.spec.tree_hash)
        data = self.settings.data
        for path, content in {
            tree / contract.dockerfile_at("text"): dockerfile,
            tree / "train.py": "print('trains')\n",
            data / self.spec.data.model_path / "config.json": "{}",
            data / self.spec.data.model_path / "inner" / "weights": "0" * 3_000_000,
            data / self.spec.data.dataset_path: ROWS,
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (tree / "train.py").chmod(0o555)


@pytest.fixture(scope="module")
def other(dockerd: PrivateEngine) -> Generator[Engine]:
    """The engine of another node, which has the base image and nothing else."""
    del dockerd  # it says first whether there can be one
    with private_engine(3) as second, closing(connect(second.host)) as engine:
        ensure_base_image(engine, tiny=True)
        yield engine


@pytest.fixture
def spec(tmp_path: Path) -> TrainingSpec:
    tree = hashlib.sha1(str(tmp_path).encode()).hexdigest()
    data = tiny_task_data(dataset_sha256=hashlib.sha256(ROWS.encode()).hexdigest())
    return training_spec(data, tree_hash=tree, task_id=f"task-{tree[:8]}")


@pytest.fixture
def node(engine: Engine, tiny: str, spec: TrainingSpec, tmp_path: Path) -> Node:
    del tiny
    return Node(settings(tmp_path / "here", engine), spec, Neighbours())


def settings(folder: Path, engine: Engine) -> Settings:
    """Of a node with that engine."""
    sandbox = Sandbox(kind="docker", host=engine.host, devices="none")
    return Settings(state=folder / "state", registry=Registry(miners=folder / "miners.json"), sandbox=sandbox)


def as_fact(spec: TrainingSpec, staged: Staged) -> ImageBuilt:
    made = staged.image
    return ImageBuilt(
        tournament_id=spec.tournament_id,
        hotkey=spec.hotkey,
        tree_hash=spec.tree_hash,
        image_id=made.image_id,
        node="elsewhere",
        dockerfile_sha256=made.dockerfile_sha256,
        base_images=made.base_images,
        seconds=made.seconds,
        because=staged.because,
    )


def test_an_image_is_built_once_and_the_data_lies_in_the_tasks_folder(node: Node) -> None:
    node.give()
    staged = node.stage()
    assert (staged.because, staged.image.found) == ("built from the tree", False)
    assert staged.image == known_image(node.settings, node.spec)
    assert task_cache(node.settings).has(node.spec)
    folder = task_cache(node.settings).folder(node.spec)
    assert (folder / contract.dataset_file(node.spec)).read_text() == ROWS
    again = node.stage()
    assert (again.because, again.image.image_id) == ("found: it was built before", staged.image.image_id)
    known = node.stage(as_fact(node.spec, staged))
    assert (known.because, known.image.image_id) == ("found: it was here before", staged.image.image_id)
    assert node.others.asked == []


def test_another_node_gets_the_same_image_and_the_heads_files(node: Node, other: Engine, tmp_path: Path) -> None:
    node.give()
    first = node.stage()
    with closing(connect(node.settings.sandbox.host)) as source:
        others = Neighbours(lambda image_id: saved_image(source, image_id), node.settings, node.spec)
        far = Node(settings(tmp_path / "there", other), node.spec, others)
        staged = far.stage(as_fact(node.spec, first))
    assert staged.because == "brought from another node"
    assert staged.image.image_id == first.image.image_id
    assert staged.image.base_images == first.image.base_images
    assert find_named(other, f"tourney/miner:text-{node.spec.tree_hash}")
    folder = task_cache(far.settings).folder(node.spec)
    weights = folder / contract.model_folder(node.spec) / "inner" / "weights"
    assert weights.read_text() == "0" * 3_000_000
    given = [f"data/{node.spec.data.model_path}", f"data/{node.spec.data.dataset_path}"]
    assert sorted(others.asked) == sorted([first.image.image_id, *given]), "the tree is of no use where the image is"
    far.stage(as_fact(node.spec, first))
    assert len(others.asked) == 3, "nothing is sent twice"


def test_the_data_are_brought_while_the_image_is(node: Node, other: Engine, tmp_path: Path) -> None:
    node.give()
    first = node.stage()
    others = Neighbours(head=node.settings, spec=node.spec)

    def image(image_id: str) -> Iterator[bytes]:
        assert others.sends_files.wait(60), "nobody asked for the data before the image was there"
        return saved_image(source, image_id)

    with closing(connect(node.settings.sandbox.host)) as source:
        others.images = image
        far = Node(settings(tmp_path / "there", other), node.spec, others)
        assert far.stage(as_fact(node.spec, first)).because == "brought from another node"
    assert task_cache(far.settings).has(node.spec)


def test_an_image_that_no_node_has_any_more_is_built_from_the_heads_tree(
    node: Node, other: Engine, tmp_path: Path
) -> None:
    node.give()
    first = node.stage()
    others = Neighbours(head=node.settings, spec=node.spec)
    far = Node(settings(tmp_path / "there", other), node.spec, others)
    staged = far.stage(as_fact(node.spec, first))
    assert staged.because == "built from the tree, for the image of before was lost"
    assert staged.image.image_id != first.image.image_id
    tree = tree_path(node.spec.tree_hash)
    assert [asked for asked in others.asked if not asked.startswith("data/")] == [first.image.image_id, tree]
    assert (far.settings.state / tree / "train.py").stat().st_mode & 0o777 == 0o555
    assert sorted(path.name for path in (far.settings.state / ".arriving").iterdir()) == ["lock"]


def test_an_image_that_was_removed_from_its_node_is_said_to_be_missing(engine: Engine) -> None:
    with pytest.raises(InputsMissing, match="image sha256:000000000000 is not on this node any more"):
        next(saved_image(engine, f"sha256:{'0' * 64}"))


def test_a_build_that_fails_is_the_miners_fault_with_its_log_and_its_record(node: Node) -> None:
    node.give(BROKEN)
    failed = node.fail()
    assert (failed.blame, failed.kind) == (Blame.MINER, "image_build_failed")
    assert "image build failed at step 2/" in failed.reason
    assert "I am step two" in failed.log_tail
    record = load(ArtifactStore(str(node.settings.data / "artifacts")), digest_of(failed.provenance))
    assert record.fault
    assert (record.fault.blame, record.fault.reason) == (Blame.MINER, failed.reason)
    assert (record.hotkey, record.source.tree_hash) == (node.spec.hotkey, node.spec.tree_hash)


def test_what_the_head_does_not_have_is_the_platforms_fault(node: Node, tmp_path: Path) -> None:
    empty = node.settings.model_copy(update={"state": tmp_path / "empty"})
    node.others = Neighbours(head=empty, spec=node.spec.model_copy(update={"repo": "https://example.invalid/gone"}))
    failed = node.fail()
    assert (failed.blame, failed.kind) == (Blame.PLATFORM, "inputs_missing"), failed
    assert "the vetted tree is gone" in failed.reason
    node.give()
    (node.settings.data / node.spec.data.dataset_path).unlink()
    failed = node.fail()
    assert (failed.blame, failed.kind) == (Blame.PLATFORM, "inputs_missing"), failed
    assert f"does not hold data/{node.spec.data.dataset_path}" in failed.reason


def test_an_engine_that_is_away_costs_nobody_an_attempt(node: Node, tmp_path: Path) -> None:
    assert "no engine listens there" in node.at(f"unix://{tmp_path}/nobody.sock").fault(EngineDown)


def test_an_engine_that_may_not_be_used_costs_nobody_an_attempt(node: Node) -> None:
    with as_nobody():
        assert "this user may not use it" in node.fault(EngineDown)


def test_an_engine_that_is_too_old_costs_nobody_an_attempt(node: Node) -> None:
    with answering(TOO_OLD) as host:
        assert "engine 19.03.5 speaks API 1.40, which is too old" in node.at(host).fault(EngineDown)


def test_an_engine_without_room_costs_nobody_an_attempt(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "RESERVE_BYTES", 2**50)
    node.give("FROM tourney/tiny-base\nRUN sleep 20\n")
    assert "the engine's disk has less than" in node.fault(StorageUnavailable)
