"""A machine that may not join is told why: its engine, its toolkit, its rights, its GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tourney_ray.effects import host_checks
from tourney_ray.effects.engine.connection import EngineFacts
from tourney_ray.effects.host_checks import claim_faults, count_gpus, engine_faults, look_over, toolkit_version
from tourney_ray.errors import EngineDown

FACTS = EngineFacts(
    engine_id="e",
    version="28.0",
    api_version="1.48",
    cpus=8,
    mem_total_bytes=2**34,
    cgroup_version="2",
    cgroup_driver="cgroupfs",
    storage_driver="overlay2",
    layer_quota=False,
    root_dir=Path("/var/lib/docker"),
    runtimes=("nvidia",),
    live_restore=True,
    rootless=False,
)
Programs = Callable[..., None]


class _Engine:
    facts = FACTS

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Puts programs on the path, alone, that say what they are given to say; the engine is as it should be."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host_checks, "connect", lambda _host: _Engine())
    monkeypatch.setattr(host_checks.os, "geteuid", lambda: 0)

    def put(**said: str) -> None:
        for name, script in said.items():
            path = tmp_path / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    return put


def test_a_machine_with_everything_joins_with_its_gpus(programs: Programs) -> None:
    programs(
        nvidia_container_cli="echo 'cli-version: 1.17.8'",
        nvidia_smi="echo 'NVIDIA H100 80GB HBM3'; echo 'NVIDIA H100 80GB HBM3'",
    )
    host = look_over()
    assert (host.gpus, host.faults) == ({"H100": 2}, ())


def test_every_fault_of_a_machine_is_told_at_once(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(nvidia_container_cli="echo 'cli-version: 1.17.7'", nvidia_smi="echo 'No devices were found' >&2; exit 6")
    monkeypatch.setattr(host_checks.os, "geteuid", lambda: 1000)
    toolkit, rights, gpus = look_over().faults
    assert "toolkit is 1.17.7: containers can break out of anything before 1.17.8, upgrade" in toolkit
    assert rights.startswith("this is not root")
    assert gpus == "nvidia-smi failed: No devices were found: install NVIDIA's driver"


def test_what_is_not_installed_is_named(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_host: str) -> None:
        raise EngineDown("no engine listens there", "install Docker")

    monkeypatch.setattr(host_checks, "connect", absent)
    engine, toolkit, gpus = look_over().faults
    assert engine == "no engine listens there: install Docker"
    assert toolkit.startswith("nvidia-container-cli cannot be run: No such file or directory: install the package")
    assert gpus.startswith("nvidia-smi cannot be run: No such file or directory")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"live_restore": False}, '{"live-restore": true}'),
        ({"cgroup_driver": "systemd"}, "native.cgroupdriver=cgroupfs"),
        ({"rootless": True}, "runs without root"),
    ],
)
def test_settings_of_the_engine_count(change: dict[str, Any], told: str | None) -> None:
    faults = engine_faults(replace(FACTS, **change))
    assert len(faults) == (1 if told else 0)
    assert all(told and told in fault for fault in faults)


@pytest.mark.parametrize(
    ("said", "version"),
    [("cli-version: 1.17.8\nlib-version: 1.17.8", (1, 17, 8)), ("NVIDIA Container Toolkit 1.18.0-rc.2", (1, 18, 0))],
)
def test_the_toolkits_version_is_read(said: str, version: tuple[int, int, int]) -> None:
    assert toolkit_version(said) == version


def test_a_toolkit_without_a_version_is_refused() -> None:
    with pytest.raises(EngineDown, match="does not say which version"):
        toolkit_version("beta")


@pytest.mark.parametrize(
    ("names", "gpus"),
    [
        (["NVIDIA A100-SXM4-40GB", ""], {"A100": 1}),
        (["NVIDIA H100 PCIe", "NVIDIA A100 80GB PCIe"], {"H100": 1, "A100": 1}),
    ],
)
def test_gpus_are_known_by_their_drivers_names(names: list[str], gpus: dict[str, int]) -> None:
    assert count_gpus(names) == gpus


@pytest.mark.parametrize(
    ("names", "why"), [(["NVIDIA GH1000"], "is called NVIDIA GH1000"), ([], "this machine has no GPU")]
)
def test_other_gpus_are_nobodys(names: list[str], why: str) -> None:
    with pytest.raises(EngineDown, match=why):
        count_gpus(names)


@pytest.mark.parametrize(
    ("claimed", "true"),
    [
        ({"CPU": 192, "GPU": 8, "H100": 8}, True),
        ({"GPU": 8, "A100": 0, "H100": 8.0}, True),
        ({"GPU": 4, "H100": 8}, False),
        ({"H100": 8}, False),
        ({"GPU": 8, "A100": 8}, False),
    ],
)
def test_what_ray_is_told_has_to_be_there(claimed: dict[str, float], true: bool) -> None:
    assert (claim_faults(claimed, {"H100": 8}) == []) is true
