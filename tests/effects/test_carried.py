"""Files and outputs on their way between machines: whole or not at all, and nothing but what was asked for."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.builders_training import tiny_task_data, training_spec
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.carried import have, sent
from tourney_ray.effects.kept_elsewhere import have_objects, sent_objects
from tourney_ray.effects.manifest import PREFIX
from tourney_ray.effects.provenance import Left, keep, load, provenance_of
from tourney_ray.effects.tar_stream import TarFile, tar_stream
from tourney_ray.errors import InputsMissing, StorageUnavailable

WEIGHTS = bytes(range(256)) * 20_000


@dataclass
class Head:
    """A machine that sends, and remembers what it was asked for."""

    root: Path
    asked: list[list[str]] = field(default_factory=list[list[str]])

    def send(self, paths: Sequence[str]) -> Iterator[bytes]:
        self.asked.append(list(paths))
        return sent(self.root, paths)


@pytest.fixture
def head(tmp_path: Path) -> Head:
    root = tmp_path / "head"
    for name, content in {"model/a/weights": WEIGHTS, "model/config": b"{}", "rows.json": b"[]"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "model" / "config").chmod(0o555)
    (root / "empty").mkdir()
    return Head(root)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def test_only_what_is_missing_is_sent_once_with_its_rights(head: Head, here: Path) -> None:
    have(here, ["model"], head.send)
    have(here, ["model", "rows.json"], head.send)
    have(here, ["model", "rows.json"], head.send)
    assert head.asked == [["model"], ["rows.json"]]
    assert (here / "model" / "a" / "weights").read_bytes() == WEIGHTS
    assert (here / "model" / "config").stat().st_mode & 0o777 == 0o555
    assert (here / "rows.json").read_bytes() == b"[]"


def test_what_the_head_does_not_have_is_named_and_nothing_is_left(head: Head, here: Path) -> None:
    with pytest.raises(InputsMissing, match="does not hold gone"):
        have(here, ["model", "gone"], head.send)
    with pytest.raises(InputsMissing, match="empty did not arrive"):
        have(here, ["empty"], head.send)
    assert [path.name for path in here.iterdir()] == [".arriving"]
    assert [path.name for path in (here / ".arriving").iterdir()] == ["lock"]


def test_what_breaks_off_on_the_way_is_as_if_it_had_never_begun(head: Head, here: Path) -> None:
    def cut(paths: Sequence[str]) -> Iterator[bytes]:
        return iter([next(head.send(paths))])

    with pytest.raises(StorageUnavailable, match="did not arrive whole"):
        have(here, ["model"], cut)
    assert not (here / "model").exists()
    have(here, ["model"], head.send)
    assert (here / "model" / "a" / "weights").read_bytes() == WEIGHTS


def test_only_plain_files_are_unpacked_and_none_outside(head: Head, here: Path) -> None:
    link = tar_stream([TarFile("model", link="/etc/passwd")])
    with pytest.raises(StorageUnavailable, match="'model', which is no plain file"):
        have(here, ["model"], lambda _: link)
    outside = io.BytesIO()
    with tarfile.open(fileobj=outside, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../outside"))
    with pytest.raises(StorageUnavailable, match="did not arrive whole"):
        have(here, ["model"], lambda _: iter([outside.getvalue()]))
    assert not (here.parent / "outside").exists()


# --- outputs


def left_behind(store: ArtifactStore, folder: Path) -> str:
    """The record of an attempt that left an output and logs in the store."""
    for name in ("output/model", "output/same", "logs/run"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(WEIGHTS if name != "logs/run" else b"loss 1.5")
    left = Left(output=store.put_folder(folder / "output"), logs=store.put_folder(folder / "logs"))
    record = provenance_of(training_spec(tiny_task_data())).model_copy(update={"left": left})
    return f"{PREFIX}{keep(store, record)}"


def test_an_output_is_brought_with_its_logs_and_its_record(tmp_path: Path) -> None:
    far, home = ArtifactStore(str(tmp_path / "far")), ArtifactStore(str(tmp_path / "home"))
    record = left_behind(far, tmp_path / "left")
    have_objects(home, record, lambda: sent_objects(far, record))
    left = load(home, record.removeprefix(PREFIX)).left
    assert (home.checkout(left.output, tmp_path / "out") / "model").read_bytes() == WEIGHTS
    assert (home.checkout(left.logs, tmp_path / "logs") / "run").read_bytes() == b"loss 1.5"
    have_objects(home, record, lambda: pytest.fail("it is there"))


def test_an_output_that_breaks_off_leaves_no_record(tmp_path: Path) -> None:
    far, home = ArtifactStore(str(tmp_path / "far")), ArtifactStore(str(tmp_path / "home"))
    record = left_behind(far, tmp_path / "left")
    first = next(sent_objects(far, record))
    with pytest.raises(StorageUnavailable, match="did not arrive whole"):
        have_objects(home, record, lambda: iter([first]))
    assert not home.has(record.removeprefix(PREFIX))
    have_objects(home, record, lambda: sent_objects(far, record))
    assert home.has(record.removeprefix(PREFIX))


def test_an_object_that_is_not_what_it_was_sent_as_is_refused(tmp_path: Path) -> None:
    home = ArtifactStore(str(tmp_path / "home"))
    record = f"{PREFIX}{'a' * 64}"
    forged = tar_stream([TarFile("a" * 64, content=b"something else")])
    with pytest.raises(StorageUnavailable, match="something else arrived"):
        have_objects(home, record, lambda: forged)
    with pytest.raises(StorageUnavailable, match="was not among what was sent"):
        have_objects(home, record, lambda: tar_stream([]))
