"""The scripts in deploy/, with programs in the place of those that would touch a machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for programs that come before the machine's own; each notes its words in `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    _put(folder, "curl", 'case "$*" in *api/token) echo t ;; *region*) echo us-east-1 ;; *) echo i-1 ;; esac')
    _put(folder, "aws", 'case "$*" in *InstanceId*) ;; *describe*) echo vol-0a1 ;; esac')
    _put(folder, "sudo", 'case "$1" in blkid) exit 2 ;; esac')
    _put(folder, "mountpoint", "exit 1")
    devices = tmp_path / "devices"
    devices.mkdir()
    (devices / "nvme-Amazon_Elastic_Block_Store_vol0a1").touch()
    return folder


@pytest.fixture
def attach(programs: Path, tmp_path: Path) -> Run:
    def attach() -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{programs}:{os.defpath}", "CALLS": str(tmp_path / "calls")}
        environment["DEVICES"] = str(tmp_path / "devices")
        command = [str(DEPLOY / "attach-state"), "tourney-state", "/var/lib/tourney"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return attach


def _put(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n{script}\n')
    path.chmod(0o755)


def _calls(folder: Path) -> list[str]:
    return [line for line in (folder / "calls").read_text().splitlines() if not line.startswith("curl")]


def test_a_new_volume_is_attached_formatted_and_mounted(attach: Run, tmp_path: Path) -> None:
    done = attach()
    assert done.returncode == 0, done.stderr
    device = f"{tmp_path}/devices/nvme-Amazon_Elastic_Block_Store_vol0a1"
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert _calls(tmp_path)[-6:] == [
        "aws ec2 attach-volume --volume-id vol-0a1 --instance-id i-1 --device /dev/sdf",
        f"sudo blkid {device}",
        f"sudo mkfs.ext4 -q {device}",
        "sudo mkdir -p /var/lib/tourney",
        f"sudo mount -o noatime {device} /var/lib/tourney",
        f"sudo chown {user} /var/lib/tourney",
    ]


def test_a_volume_that_holds_anything_is_never_formatted(attach: Run, programs: Path, tmp_path: Path) -> None:
    _put(programs, "sudo", "exit 0")
    assert attach().returncode == 0
    assert not [call for call in _calls(tmp_path) if "mkfs" in call]
    assert [call for call in _calls(tmp_path) if " mount " in call]


def test_after_a_reboot_what_is_still_attached_is_only_mounted(attach: Run, programs: Path, tmp_path: Path) -> None:
    _put(programs, "aws", 'case "$*" in *InstanceId*) echo i-1 ;; *describe*) echo vol-0a1 ;; *) exit 1 ;; esac')
    _put(programs, "sudo", "exit 0")
    done = attach()
    assert done.returncode == 0, done.stderr
    assert not [call for call in _calls(tmp_path) if "wait" in call or "attach-volume" in call or "mkfs" in call]
    assert [call for call in _calls(tmp_path) if " mount " in call]


def test_what_is_mounted_already_is_left_alone(attach: Run, programs: Path, tmp_path: Path) -> None:
    _put(programs, "mountpoint", "exit 0")
    assert attach().returncode == 0
    assert _calls(tmp_path) == ["mountpoint -q /var/lib/tourney"]


@pytest.mark.parametrize(
    ("found", "told"), [("", "no volume is called tourney-state"), ("vol-1 vol-2", "several volumes are called")]
)
def test_without_one_volume_nothing_is_attached(
    attach: Run, programs: Path, tmp_path: Path, found: str, told: str
) -> None:
    _put(programs, "aws", f"echo '{found}'")
    done = attach()
    assert done.returncode == 1
    assert told in done.stderr
    assert not [call for call in _calls(tmp_path) if "attach-volume" in call]


@pytest.mark.parametrize("there", [None, {"runtimes": {"nvidia": {"path": "x"}}, "live-restore": False}])
def test_the_engine_gets_its_settings_once(there: dict[str, object] | None, tmp_path: Path) -> None:
    settings = tmp_path / "docker" / "daemon.json"
    if there is not None:
        settings.parent.mkdir()
        settings.write_text(json.dumps(there))
    _put(tmp_path, "systemctl", "exit 0")
    environment = {"PATH": f"{tmp_path}:{os.defpath}", "CALLS": str(tmp_path / "calls")}
    for _ in range(2):
        subprocess.run([sys.executable, str(DEPLOY / "engine-settings"), str(settings)], env=environment, check=True)
    needed = {"live-restore": True, "exec-opts": ["native.cgroupdriver=cgroupfs"]}
    assert json.loads(settings.read_text()) == {**(there or {}), **needed}
    assert _calls(tmp_path) == ["systemctl restart docker"]


def test_the_ray_of_shared_hosts_passes_everything_but_stop_on(tmp_path: Path) -> None:
    real = tmp_path / "tourney-venv" / "bin"
    real.mkdir(parents=True)
    _put(real, "ray", "")
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "CALLS": str(tmp_path / "calls")}
    for words in (["status", "-v"], ["stop"]):
        subprocess.run([str(DEPLOY / "bin" / "ray"), *words], env=environment, check=True, timeout=60)
    assert _calls(tmp_path) == ["ray status -v"]
