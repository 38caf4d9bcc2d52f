"""What goes when more lies somewhere than may: real folders, a real store, and somebody at work in it meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pyarrow import fs

from tests.builders_training import tiny_task_data, training_spec
from tests.effects.builders_repos import make_repo
from tourney_ray.core.holdings import Holdings
from tourney_ray.effects import retention_caches
from tourney_ray.effects.artifacts import ArtifactStore, checked_out
from tourney_ray.effects.file_lock import alone
from tourney_ray.effects.objects_remote import RemoteObjects
from tourney_ray.effects.provenance import Left, keep, provenance_of
from tourney_ray.effects.repos import RepoStore
from tourney_ray.effects.retention import MARGIN, UNFINISHED_AFTER, Item, Mark, mark_of, sweep, to_remove
from tourney_ray.effects.retention_artifacts import sweep_artifacts
from tourney_ray.effects.retention_caches import Caches, room_of, sweep_caches
from tourney_ray.errors import StorageUnavailable

NOW = datetime.now(UTC)
OLD, OLDER = NOW - timedelta(hours=5), NOW - timedelta(hours=9)
LONG_AGO = NOW - timedelta(days=3)
NOTHING = Holdings(*[frozenset()] * 7, collecting_since=None)
KIB = 1024


def mark(**held: Collection[object] | datetime | None) -> Mark:
    """Of this moment: nothing is held but that."""
    needed: dict[str, Any] = {k: frozenset(v) if isinstance(v, list) else v for k, v in held.items()}
    return mark_of(lambda: replace(NOTHING, **needed), NOW)


def age(path: Path, at: datetime) -> None:
    os.utime(path, (at.timestamp(), at.timestamp()), follow_symlinks=False)


# --- what goes

sizes = st.integers(0, 100)
items = st.lists(
    st.builds(
        lambda name, size, hours: Item("thing", name, size, NOW - timedelta(hours=hours)),
        st.text("abcdefgh", min_size=1, max_size=2),
        sizes,
        st.integers(0, 9),
    ),
    unique_by=lambda item: item.name,
)


@given(items, st.sets(st.text("abcdefgh", min_size=1, max_size=2)), st.integers(0, 500))
def test_the_oldest_go_until_the_rest_fits_and_never_what_is_held(there: list[Item], held: set[str], most: int):
    gone = to_remove(there, held, most)
    stays = [item for item in there if item not in gone]
    assert not held & {item.name for item in gone}
    total = sum(item.size_bytes for item in stays)
    free = [item for item in stays if item.name not in held and item.size_bytes]
    assert total <= most or not free
    assert all(one.used_at >= other.used_at for one in free for other in gone)
    if gone:
        assert total + gone[-1].size_bytes > most, "one less would have done"


@given(items, st.sets(st.text("abcdefgh", min_size=1, max_size=2)), st.integers(0, 500))
def test_in_place_of_what_has_to_stay_others_go(there: list[Item], stuck: set[str], most: int):
    swept = sweep("things", there, set(), most, lambda item: "in use" if item.name in stuck else item.size_bytes)
    names = {one.name for one in swept.removed}
    assert not names & stuck
    assert names == {item.name for item in to_remove(there, stuck, most)}
    assert swept.kept == len(there) - len(names)
    assert swept.kept_bytes + swept.freed_bytes == sum(item.size_bytes for item in there)
    assert all(left.endswith("in use") for left in swept.left)


def test_a_mark_is_as_old_as_what_is_being_collected():
    assert mark().before == NOW - MARGIN
    assert mark(collecting_since=OLDER).before == OLDER - MARGIN
    assert mark(collecting_since=NOW + timedelta(hours=1)).before == NOW - MARGIN, "a driver's clock may be ahead"


# --- the store


@dataclass
class Shelf:
    """A store whose objects are as old as a test says."""

    root: Path

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.root))

    def folder(self, files: dict[str, bytes], at: datetime) -> str:
        """The digest of a folder that was kept at that moment."""
        source = self.root.with_name("source")
        for name, content in files.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        digest = self.store.put_folder(source)
        for name in files:
            (source / name).unlink()
        for name in (digest, *self.store.manifest(digest).names()):
            age(self.path(name), at)
        return digest

    def bytes(self, content: bytes, at: datetime) -> str:
        digest = self.store.put_bytes(content)
        age(self.path(digest), at)
        return digest

    def path(self, name: str) -> Path:
        return self.root / "objects" / name[:2] / name

    def names(self) -> set[str]:
        return {one.name for one in self.store.objects()}

    def room(self) -> int:
        return sum(path.stat().st_blocks * 512 for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "artifacts")


def weights(number: int) -> dict[str, bytes]:
    """A checkpoint of 16 KiB that is like no other, but for its configuration."""
    return {"config.json": b"{}" * KIB, "model/weights": bytes([number]) * 16 * KIB}


def test_a_folder_keeps_all_of_its_files_and_a_past_one_loses_all(shelf: Shelf):
    held, past = shelf.folder(weights(1), OLDER), shelf.folder(weights(2), OLD)
    room = shelf.room()
    swept = sweep_artifacts(shelf.store, mark(checkpoints=[held], past_checkpoints=[past]), 0)
    assert [(one.what, one.name) for one in swept.removed] == [("checkpoint", past)]
    assert swept.freed_bytes == room - shelf.room() > 16 * KIB
    assert shelf.names() == {held, *shelf.store.manifest(held).names()}
    shelf.store.checkout(held, shelf.root.with_name("again"))
    assert swept.kept == 3
    assert swept.kept_bytes == shelf.room()


def test_past_checkpoints_go_one_by_one_the_oldest_first(shelf: Shelf):
    past = [shelf.folder(weights(n), OLDER + timedelta(minutes=n)) for n in range(4)]
    each = 16 * KIB + 8 * KIB
    swept = sweep_artifacts(shelf.store, mark(past_checkpoints=past), shelf.room() - each - KIB)
    assert [one.name for one in swept.removed] == past[:2]
    for digest in past[2:]:
        shelf.store.checkout(digest, shelf.root.with_name(digest))


def test_below_the_limit_nothing_goes(shelf: Shelf):
    past = shelf.folder(weights(1), OLDER)
    swept = sweep_artifacts(shelf.store, mark(past_checkpoints=[past]), shelf.room())
    assert swept.removed == ()
    assert shelf.store.has(past)


def test_a_dry_run_says_the_same_and_removes_nothing(shelf: Shelf):
    past = [shelf.folder(weights(n), OLDER + timedelta(minutes=n)) for n in range(2)]
    (shelf.root / "staged" / "left").write_bytes(b"x" * 8 * KIB)
    age(shelf.root / "staged" / "left", LONG_AGO)
    before = shelf.names()
    said = sweep_artifacts(shelf.store, mark(past_checkpoints=past), 0, dry_run=True)
    assert shelf.names() == before
    assert sweep_artifacts(shelf.store, mark(past_checkpoints=past), 0) == said
    assert shelf.names() == set()


def test_records_stay_and_so_do_the_logs_of_live_tournaments(shelf: Shelf):
    logs, past_logs = shelf.folder({"log.txt": b"hello" * KIB}, OLDER), shelf.folder({"log.txt": b"bye" * KIB}, OLDER)
    output = shelf.folder(weights(1), OLDER)
    record = provenance_of(training_spec(tiny_task_data()))
    live = keep(shelf.store, record.model_copy(update={"left": Left(output=output, logs=logs)}))
    past = keep(shelf.store, record.model_copy(update={"left": Left(logs=past_logs), "epoch": 2}))
    for digest in (live, past):
        age(shelf.path(digest), OLDER)
    sweep_artifacts(shelf.store, mark(checkpoints=[output], records=[live, past], live_records=[live]), 0)
    kept = {live, past, output, logs, *shelf.store.manifest(output).names(), *shelf.store.manifest(logs).names()}
    assert shelf.names() == kept


def test_an_object_that_nobody_names_goes_and_a_young_one_stays(shelf: Shelf):
    shelf.bytes(b"a" * 8 * KIB, OLD)
    young = shelf.bytes(b"b" * 8 * KIB, NOW)
    swept = sweep_artifacts(shelf.store, mark(), 0)
    assert [one.what for one in swept.removed] == ["object"]
    assert shelf.names() == {young}


def test_what_an_attempt_under_way_has_left_stays_however_long_it_takes(shelf: Shelf):
    """Its files are kept hours before the list of them is, and its outcome on record."""
    began = LONG_AGO
    file = shelf.bytes(b"a" * 8 * KIB, LONG_AGO + timedelta(hours=1))
    sweep_artifacts(shelf.store, mark(collecting_since=began), 0)
    assert shelf.names() == {file}
    sweep_artifacts(shelf.store, mark(), 0)
    assert shelf.names() == set()


def test_a_past_checkpoint_that_was_kept_of_late_stays_whole(shelf: Shelf):
    """Its first file was kept long before its list."""
    past = shelf.folder(weights(1), OLD)
    age(shelf.path(past), NOW)
    before = shelf.names()
    sweep_artifacts(shelf.store, mark(past_checkpoints=[past]), 0)
    assert shelf.names() == before


def test_what_was_never_finished_goes_after_a_day_whatever_the_limit(shelf: Shelf):
    shelf.bytes(b"a", OLD)
    for name, at in {"given-up": NOW - MARGIN - UNFINISHED_AFTER - timedelta(minutes=1), "slow": OLD}.items():
        (shelf.root / "staged" / name).write_bytes(b"x" * 4 * KIB)
        age(shelf.root / "staged" / name, at)
    swept = sweep_artifacts(shelf.store, mark(), 2**40)
    assert [(one.name, one.bytes) for one in swept.removed] == [("staged/given-up", 4 * KIB)]
    assert (shelf.root / "staged" / "slow").exists()


def test_where_what_is_needed_cannot_be_told_nothing_goes(shelf: Shelf):
    held, past = shelf.folder(weights(1), OLDER), shelf.folder(weights(2), OLD)
    shelf.path(held).chmod(0o600)
    shelf.path(held).write_bytes(b"spoilt")
    age(shelf.path(held), OLDER)
    before = shelf.names()
    with pytest.raises(StorageUnavailable, match=f"object {held} .* is spoilt"):
        sweep_artifacts(shelf.store, mark(checkpoints=[held], past_checkpoints=[past]), 0)
    assert shelf.names() == before


def test_a_needed_folder_that_lies_on_another_node_hinders_nobody(shelf: Shelf):
    past = shelf.folder(weights(2), OLD)
    sweep_artifacts(shelf.store, mark(checkpoints=["e" * 64, "out/of-an-older-version"], past_checkpoints=[past]), 0)
    assert shelf.names() == set()


def test_the_list_of_a_past_checkpoint_may_be_spoilt_and_all_of_it_goes(shelf: Shelf):
    past = shelf.folder(weights(2), OLD)
    shelf.path(past).chmod(0o600)
    shelf.path(past).write_bytes(b"spoilt")
    age(shelf.path(past), OLD)
    sweep_artifacts(shelf.store, mark(past_checkpoints=[past]), 0)
    assert shelf.names() == set()


def test_a_checkpoint_that_a_checked_out_folder_shares_frees_nothing_by_itself(shelf: Shelf):
    past = shelf.folder(weights(1), OLD)
    folder = checked_out(shelf.store, f"sha256:{past}", shelf.root.with_name("checkouts"))
    assert room_of(folder) == 0
    list_alone = shelf.path(past).stat().st_blocks * 512
    swept = sweep_artifacts(shelf.store, mark(past_checkpoints=[past]), 0)
    assert swept.freed_bytes == list_alone
    assert room_of(folder) > 16 * KIB


def test_whoever_keeps_an_old_object_again_during_a_sweep_does_not_lose_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
):
    """It was looked at and found old; before it is removed, somebody else counts on it."""
    content = b"again" * 4 * KIB
    digest = shelf.bytes(content, OLDER)
    found_old, kept = threading.Event(), threading.Event()
    unlink = Path.unlink

    def slow(path: Path, missing_ok: bool = False) -> None:
        if path.name == digest:
            found_old.set()
            kept.wait(0.3)  # in vain: it is kept again only when this is over
        unlink(path, missing_ok=missing_ok)

    def put() -> str:
        assert found_old.wait(10)
        again = shelf.store.put_bytes(content)
        kept.set()
        return again

    monkeypatch.setattr(Path, "unlink", slow)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(put)
        sweep_artifacts(shelf.store, mark(), 0)
        assert other.result() == digest
    assert shelf.store.get_bytes(digest) == content


def test_many_who_keep_what_is_being_swept_lose_nothing(shelf: Shelf):
    def keep_on(number: int) -> None:
        content = bytes([number]) * 4 * KIB
        for _ in range(100):
            digest = shelf.store.put_bytes(content)
            assert shelf.store.get_bytes(digest) == content
            age(shelf.path(digest), OLD)

    with ThreadPoolExecutor(3) as pool:
        keepers = [pool.submit(keep_on, number) for number in range(3)]
        removed = 0
        while not all(keeper.done() for keeper in keepers):
            removed += len(sweep_artifacts(shelf.store, mark(), 0).removed)
        for keeper in keepers:
            keeper.result()
    assert removed


def test_a_store_elsewhere_is_swept_alike(tmp_path: Path):
    """Another of pyarrow's file systems, as a bucket would be: no links, no locks, no ages of one's own."""
    store = ArtifactStore(str(tmp_path / "unused"))
    remote = RemoteObjects(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket")
    store._objects = remote
    past = store.put_bytes(b"a" * 100)
    young = store.put_bytes(b"b" * 100)
    age(tmp_path / "bucket" / "objects" / past[:2] / past, OLD)
    swept = sweep_artifacts(store, mark(), 0)
    assert [(one.name, one.bytes) for one in swept.removed] == [(past, 100)]
    assert {one.name for one in store.objects()} == {young}


# --- caches


@dataclass
class Node:
    """The caches of a node, as old as a test says."""

    folder: Path

    @property
    def caches(self) -> Caches:
        return Caches(
            self.folder / "cache",
            self.folder / "checkouts",
            RepoStore(self.folder / "repos", allow_file=True),
            self.folder / "builds",
            self.folder / "carried",
        )

    def put(self, name: str, at: datetime, kib: int = 8) -> Path:
        """A folder, or a file where its name has a suffix, of that size."""
        path = self.folder / name
        file = path if path.suffix else path / "data" / "rows"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * kib * KIB)
        age(path, at)
        return path

    def left(self) -> set[str]:
        names = ("cache", "checkouts", "repos/trees", "builds", "carried/data/models")
        return {
            f"{name}/{path.name}"
            for name in names
            for path in ((self.folder / name).iterdir() if (self.folder / name).exists() else ())
            if path.suffix != ".lock"
        }


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "state")


def test_nothing_is_there_and_nothing_goes(node: Node):
    swept = sweep_caches(node.caches, mark(), 0)
    assert (swept.removed, swept.kept, swept.kept_bytes) == ((), 0, 0)
    assert not node.folder.exists()


def test_all_kinds_of_caches_share_a_limit_and_the_oldest_go_first(node: Node):
    node.put("cache/task-1", OLDER)
    node.put(f"checkouts/{'c' * 64}", OLDER + timedelta(minutes=1))
    node.put(f"repos/trees/{'a' * 40}", OLDER + timedelta(minutes=2))
    node.put(f"builds/{'a' * 40}-text.log", OLDER + timedelta(minutes=3))
    node.put("cache/task-2", OLDER + timedelta(minutes=4))
    swept = sweep_caches(node.caches, mark(), 8 * KIB)
    assert [one.what for one in swept.removed] == ["task data", "checkout", "repository", "build log"]
    assert swept.freed_bytes == 32 * KIB
    assert (swept.kept, swept.kept_bytes, swept.limit_bytes) == (1, 8 * KIB, 8 * KIB)
    assert node.left() == {"cache/task-2"}


def test_what_is_needed_stays_though_it_is_too_much(node: Node):
    for name in ("cache/task_1", f"checkouts/{'c' * 64}", f"repos/trees/{'a' * 40}", f"builds/{'a' * 40}-text.json"):
        node.put(name, OLDER)
    needed = mark(tasks=["task/1"], checkpoints=["c" * 64], trees=["a" * 40], images=[("a" * 40, "text")])
    before = node.left()
    assert sweep_caches(node.caches, needed, 0).removed == ()
    assert node.left() == before
    assert len(sweep_caches(node.caches, mark(), 0).removed) == 4


def test_young_ones_stay_and_so_does_what_the_operator_has(node: Node):
    node.put("cache/task-1", NOW)
    node.put("data/models/large", LONG_AGO)
    node.put("work/attempt-1", LONG_AGO)
    assert sweep_caches(node.caches, mark(), 0).removed == ()
    assert (node.folder / "data" / "models" / "large").is_dir()
    assert (node.folder / "work" / "attempt-1").is_dir()


def test_what_came_from_the_head_goes_and_a_task_keeps_what_it_needs_of_it(node: Node):
    model = node.put("carried/data/models/large", OLDER)
    (cache := node.folder / "cache" / "task_1").mkdir(parents=True)
    os.link(model / "data" / "rows", cache / "rows")
    (model / "tokenizer").write_bytes(b"x" * 4 * KIB)
    age(model, OLDER)
    arriving = node.put("carried/.arriving/half", LONG_AGO)
    removed = sweep_caches(node.caches, mark(tasks=["task/1"]), 0).removed
    assert [(one.what, one.bytes) for one in removed] == [
        ("unfinished folder", 8 * KIB),
        ("copy of the head's", 4 * KIB),
    ]
    assert node.left() == {"cache/task_1"}
    assert (cache / "rows").stat().st_size == 8 * KIB
    assert not arriving.exists()


def test_test_rows_that_came_for_an_evaluator_go_one_file_at_a_time(node: Node):
    node.put("carried/data/tests/task-1_test.json", OLDER)
    young = node.put("carried/data/tests/task-2_test.json", NOW)
    swept = sweep_caches(node.caches, mark(), 0)
    assert [(one.what, Path(one.name).name) for one in swept.removed] == [("copy of the head's", "task-1_test.json")]
    assert [path.name for path in young.parent.iterdir()] == [young.name]


def test_files_that_others_have_as_well_take_no_room(node: Node):
    model = node.put("data/models/large", OLDER) / "data" / "rows"
    cache = node.put("cache/task-1", OLDER, kib=4)
    os.link(model, cache / "model")
    age(cache, OLDER)
    swept = sweep_caches(node.caches, mark(), 0)
    assert swept.freed_bytes == 4 * KIB
    assert model.exists()


def test_a_tree_as_deep_as_a_stranger_can_make_it_is_measured_and_goes(node: Node):
    tree = node.put(f"repos/trees/{'a' * 40}", OLDER)
    folder = os.open(tree, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=folder)
    os.write(file, b"x" * 4 * KIB)
    os.close(file)
    os.symlink("/etc", "link", dir_fd=folder)
    os.close(folder)
    age(tree, OLDER)
    assert room_of(tree) == 12 * KIB
    assert sweep_caches(node.caches, mark(), 0).freed_bytes == 12 * KIB
    assert node.left() == set()


def test_what_was_never_finished_goes_after_a_day(node: Node):
    long_ago = ["cache/.task-1.staged", "checkouts/.removed-x", "repos/work/abc"]
    for name in (*long_ago, "cache/.task-2.staged", "cache/.task-1.lock"):
        file = node.folder / name / "part"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
        age(file.parent, OLD if "task-2" in name else LONG_AGO)
    dry = sweep_caches(node.caches, mark(), 2**40, dry_run=True)
    assert all((node.folder / name).exists() for name in long_ago)
    assert sweep_caches(node.caches, mark(), 2**40) == dry
    assert {Path(one.name).relative_to(node.folder).as_posix() for one in dry.removed} == set(long_ago)
    assert not any((node.folder / name).exists() for name in long_ago)
    assert (node.folder / "cache" / ".task-2.staged").exists()
    assert (node.folder / "cache" / ".task-1.lock").exists()


def test_a_cache_that_is_used_again_during_the_sweep_stays(node: Node, monkeypatch: pytest.MonkeyPatch):
    cache = node.put("cache/task-1", OLDER)
    node.put("cache/task-2", OLD)

    def late(path: Path) -> AbstractContextManager[None]:
        if "task-1" in path.name:
            age(cache, datetime.now(UTC))
        return alone(path)

    monkeypatch.setattr(retention_caches, "alone", late)
    swept = sweep_caches(node.caches, mark(), 8 * KIB)
    assert swept.left == (f"task data {cache}: it was used again meanwhile",)
    assert node.left() == {"cache/task-1"}


def test_a_repository_that_is_fetched_again_is_young_and_one_that_went_is_fetched_anew(
    need: Callable[[str], str], node: Node, tmp_path: Path
):
    need("git")
    repo = tmp_path / "miner"
    commit = make_repo(repo, {"train.py": "print(1)\n"})
    store = node.caches.repos
    fetched = store.fetch(str(repo), commit)
    age(fetched.path, OLDER)
    assert store.fetch(str(repo), commit) == fetched
    assert sweep_caches(node.caches, mark(), 0).removed == ()
    age(fetched.path, OLDER)
    assert [one.what for one in sweep_caches(node.caches, mark(), 0).removed] == ["repository"]
    assert not fetched.path.exists()
    assert store.fetch(str(repo), commit) == fetched
    assert (fetched.path / "train.py").read_text() == "print(1)\n"
