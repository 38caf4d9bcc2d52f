"""What is written into the control group of a build, for both versions of control groups; without any engine."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.effects.test_options import FACTS
from tourney_ray.effects.engine import build_bounds
from tourney_ray.effects.engine.build_bounds import bounded, end_processes
from tourney_ray.errors import EngineDown

GIB = 2**30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the kernel's, which keeps what is written."""
    monkeypatch.setattr(build_bounds, "GROUPS", tmp_path)

    def end(folders: list[Path]) -> None:
        for folder in folders:
            shutil.rmtree(folder)

    monkeypatch.setattr(build_bounds, "_end", end)
    return tmp_path


def _written(groups: Path) -> dict[str, str]:
    files = (path for path in groups.rglob("*") if path.is_file())
    return {str(path.relative_to(groups)).replace(_name(groups), "GROUP"): path.read_text() for path in files}


def _name(groups: Path) -> str:
    return next(groups.rglob("tourney-build/*-*")).name


def test_the_first_version(groups: Path) -> None:
    with bounded(FACTS, GIB, 100, 2.5) as group:
        assert group.startswith("/tourney-build/")
        assert _written(groups) == {
            "memory/tourney-build/GROUP/memory.limit_in_bytes": str(GIB),
            "pids/tourney-build/GROUP/pids.max": "100",
            "cpu/tourney-build/GROUP/cpu.cfs_period_us": "100000",
            "cpu/tourney-build/GROUP/cpu.cfs_quota_us": "250000",
        }


def test_the_second_version(groups: Path) -> None:
    with bounded(replace(FACTS, cgroup_version="2"), GIB, 100, 2.5):
        assert _written(groups) == {
            "cgroup.subtree_control": "+memory +pids +cpu",
            "tourney-build/cgroup.subtree_control": "+memory +pids +cpu",
            "tourney-build/GROUP/memory.max": str(GIB),
            "tourney-build/GROUP/memory.swap.max": "0",
            "tourney-build/GROUP/pids.max": "100",
            "tourney-build/GROUP/cpu.max": "250000 100000",
        }


@pytest.mark.parametrize(("cpus", "quota"), [(8.0, "200000"), (0.5, "50000"), (0.0001, "1000")])
def test_a_build_has_no_more_cpus_than_the_node(groups: Path, cpus: float, quota: str) -> None:
    with bounded(replace(FACTS, cpus=2), GIB, 100, cpus):
        assert (groups / "cpu/tourney-build" / _name(groups) / "cpu.cfs_quota_us").read_text() == quota


def test_groups_that_are_left_to_systemd_cannot_be_bounded(groups: Path) -> None:
    with (
        pytest.raises(EngineDown, match="leaves control groups to systemd"),
        bounded(replace(FACTS, cgroup_driver="systemd"), GIB, 100, 1.0),
    ):
        raise AssertionError
    assert not list(groups.iterdir())


def test_a_bound_that_cannot_be_set_is_the_platforms_fault(groups: Path) -> None:
    (groups / "cpu").write_text("no folder")
    with pytest.raises(EngineDown, match="builds cannot be bounded"), bounded(FACTS, GIB, 100, 1.0):
        raise AssertionError
    assert not list(groups.rglob("tourney-build/*"))


def test_in_a_group_that_is_ended_nothing_starts_any_more(groups: Path) -> None:
    with bounded(FACTS, GIB, 100, 2.5) as group:
        for folder in groups.rglob(_name(groups)):
            (folder / "cgroup.procs").write_text("")
        end_processes(group)
        assert _written(groups)["pids/tourney-build/GROUP/pids.max"] == "0"
