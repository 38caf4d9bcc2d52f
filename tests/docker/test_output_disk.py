"""Output folders with bounds of their own; what is mounted is gone after each test."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.docker.engine import mounts_below
from tourney_ray.effects.engine import output_disk
from tourney_ray.effects.engine.output_disk import OutputDisk, can_mount
from tourney_ray.errors import StorageUnavailable

MIB = 2**20


@pytest.fixture
def place(tmp_path: Path) -> Generator[Path]:
    if not can_mount():
        skip_or_fail("mounting an output disk needs root and loop devices")
    yield tmp_path
    left = mounts_below(tmp_path)
    for mount in reversed(left):
        subprocess.run(["umount", mount], check=True)
    assert not left
    assert not loops(tmp_path)


def loops(folder: Path) -> list[str]:
    """Loop devices whose file lies below a folder, deleted ones too."""
    files = [file.read_text().strip() for file in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [file for file in files if file.startswith(str(folder))]


def fill(folder: Path, up_to: int) -> tuple[int, int]:
    """Write a file of at most so many bytes; how many went in and the error's number, 0 for none."""
    written = 0
    with (folder / "fill").open("wb", buffering=0) as file:
        while written < up_to:
            try:
                written += file.write(bytes(256 * 1024))
            except OSError as problem:
                return written, problem.errno or 0
    return written, 0


def test_it_takes_its_bytes_and_no_more(place: Path) -> None:
    disk = OutputDisk(place / "a", 16 * MIB, 100)
    point = disk.prepare()
    assert os.path.ismount(point)
    assert disk.kind == "disk"
    written, number = fill(point, 64 * MIB)
    assert number == errno.ENOSPC
    assert 12 * MIB < written <= 16 * MIB
    assert 12 * MIB < disk.used().bytes <= 16 * MIB
    assert disk.overfull() == ""
    disk.release()
    assert not (place / "a").exists()


def test_it_takes_its_files_and_no_more(place: Path) -> None:
    disk = OutputDisk(place / "a", 64 * MIB, 50)
    point = disk.prepare()
    made = 0
    with contextlib.suppress(OSError):
        for made in range(1000):
            (point / str(made)).touch()
    assert 50 <= made <= 100  # a file system rounds its tables up
    disk.release()


def test_it_starts_empty_and_open_to_any_user(place: Path) -> None:
    disk = OutputDisk(place / "a", 16 * MIB, 100)
    point = disk.prepare()
    assert list(point.iterdir()) == []
    assert point.stat().st_mode & 0o7777 == 0o1777
    options = next(line.split()[3] for line in Path("/proc/self/mounts").read_text().splitlines() if str(point) in line)
    assert {"nodev", "nosuid", "noexec"} <= set(options.split(","))
    disk.release()


def test_who_comes_next_finds_what_was_written(place: Path) -> None:
    (OutputDisk(place / "a", 16 * MIB, 100).prepare() / "kept").write_text("x")
    again = OutputDisk(place / "a", 16 * MIB, 100)
    assert (again.prepare() / "kept").read_text() == "x"
    assert len(mounts_below(place)) == 1
    again.release()


def test_after_a_reboot_the_output_is_mounted_again(place: Path) -> None:
    disk = OutputDisk(place / "a", 16 * MIB, 100)
    (disk.prepare() / "kept").write_text("x")
    subprocess.run(["umount", place / "a" / "disk"], check=True)
    assert (disk.prepare() / "kept").read_text() == "x"
    disk.release()


def test_a_sealed_one_cannot_be_written(place: Path) -> None:
    disk = OutputDisk(place / "a", 16 * MIB, 100)
    point = disk.prepare()
    (point / "kept").write_text("x")
    disk.seal()
    disk.seal()
    assert (point / "kept").read_text() == "x"
    with pytest.raises(OSError, match="Read-only"):
        (point / "late").touch()
    disk.release()


def test_releasing_twice_is_releasing_once(place: Path) -> None:
    disk = OutputDisk(place / "a", 16 * MIB, 100)
    disk.release()
    disk.prepare()
    disk.release()
    disk.release()


def test_one_in_use_is_not_taken_away(place: Path) -> None:
    disk = OutputDisk(place / "a", 16 * MIB, 100)
    with (disk.prepare() / "open").open("w"), pytest.raises(StorageUnavailable, match="busy") as caught:
        disk.release()
    assert "end that" in caught.value.hint
    assert os.path.ismount(place / "a" / "disk")
    disk.release()


def test_more_than_eight_at_once(place: Path) -> None:
    disks = [OutputDisk(place / str(n), 16 * MIB, 100) for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        points = list(pool.map(OutputDisk.prepare, disks))
        assert len(mounts_below(place)) == 12
        for number, point in enumerate(points):
            (point / "mine").write_text(str(number))
        assert [(point / "mine").read_text() for point in points] == [str(n) for n in range(12)]
        list(pool.map(OutputDisk.release, disks))


@pytest.mark.parametrize("step", ["mkfs.ext4", "mount", "umount"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_step_is_made_good(place: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str) -> None:
    class Crash(BaseException):
        pass

    run = output_disk._run

    def crashing(tool: str, *words: str) -> None:
        if tool == step and when == "before":
            raise Crash
        run(tool, *words)
        if tool == step:
            raise Crash

    disk = OutputDisk(place / "a", 16 * MIB, 100)

    def prepare_and_release() -> None:
        disk.prepare()
        disk.release()

    with monkeypatch.context() as patched:
        patched.setattr(output_disk, "_run", crashing)
        with pytest.raises(Crash):
            prepare_and_release()
    (OutputDisk(place / "a", 16 * MIB, 100).prepare() / "x").touch()
    OutputDisk(place / "a", 16 * MIB, 100).release()
    assert list(place.iterdir()) == []


def test_without_mounting_it_is_a_folder_that_somebody_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_disk, "can_mount", lambda: False)
    disk = OutputDisk(tmp_path / "a", 8 * MIB, 20)
    point = disk.prepare()
    assert disk.kind == "folder"
    assert disk.overfull() == ""
    (point / "link").symlink_to("/usr")
    with (point / "sparse").open("wb") as file:
        file.truncate(2**40)
    assert disk.overfull() == ""  # nothing of it takes up room
    fill(point, 9 * MIB)
    assert "more than 8 MiB" in disk.overfull()
    (point / "fill").unlink()
    for number in range(20):
        (point / str(number)).mkdir()
    assert "more than 20 files" in disk.overfull()
    disk.release()
    assert list(tmp_path.iterdir()) == []


def test_a_tree_without_end_is_overfull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_disk, "can_mount", lambda: False)
    disk = OutputDisk(tmp_path / "a", 8 * MIB, 10_000)
    deep = disk.prepare().joinpath(*["d"] * 250)
    deep.mkdir(parents=True)
    assert "files and folders" in disk.overfull()
    disk.release()
